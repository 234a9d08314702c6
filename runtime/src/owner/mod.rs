//! How other commands reach the process that owns a container's machine.
//!
//! `message` says what can be asked, `wire` carries it over a socket in the
//! state folder, with descriptors beside it.

pub mod message;
pub mod wire;

pub use message::{ExecRequest, ProcessEntry, Reply, Request, Status};
pub use wire::{Connection, Error, connect, listen};
