//! How other commands reach the process that owns a container's machine.
//!
//! `child` starts it, `message` says what can be asked, `wire` carries it over a socket in the
//! state folder, with descriptors beside it.

mod child;
pub mod message;
pub mod wire;

pub(crate) use child::caller;
pub use child::{OwnerChild, Surroundings};
pub use message::{
    ExecRequest, GuestContainer, GuestTerminal, JoinRequest, ProcessEntry, Reply, Request, Status,
};
pub use wire::{Connection, Error, connect, listen};
