//! caisson on the host: OCI containers, each in its own virtual machine.
//!
//! The walk of `create`: `bundle` reads config.json, `plan` decides everything,
//! `container` keeps the record and starts the owner (`sandbox`), which boots a
//! `machine` and talks to the guest's agent. `owner` is how other commands
//! reach that process. `cli` is one door; a containerd shim is another.

pub mod annotations;
pub mod bundle;
mod capabilities;
pub mod cgroup;
pub mod cli;
pub mod container;
pub mod creation;
pub mod detached;
mod errand;
pub mod error_line;
pub mod features;
pub mod fields;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod guest_names;
pub mod handover;
pub mod hooks;
pub mod identity;
pub mod installation;
pub mod log;
pub mod machine;
mod memory_file;
pub mod network;
pub mod notify;
pub mod numa;
pub mod owner;
pub mod pidfd;
pub mod plan;
pub mod preserved;
pub mod private;
mod relay;
pub mod resources;
pub mod sandbox;
pub mod seccomp;
pub mod session;
pub mod setup;
pub mod signals;
mod spelling;
pub mod statistics;
pub mod stdio;
pub mod store;
mod sys;
pub mod terminal;
