//! How other commands reach the process that owns a container's machine.
//!
//! `child` starts it, `message` says what can be asked, `wire` carries it over a socket in the
//! state directory, with descriptors beside it.

mod child;
pub mod message;
pub mod wire;

use serde_json::Value;

pub(crate) use child::caller;
pub use child::{OwnerChild, SpawnOptions};
pub use message::{
    ExecRequest, GuestContainer, GuestTerminal, HostPlace, JoinRequest, MountBelow, OfferedShare,
    PlaceInFileSystem, ProcessEntry, Reply, Request, Status,
};
pub use wire::{Connection, Error, connect, listen};

/// Status of a process whose machine died under it: as if killed by SIGKILL.
pub const KILLED: u8 = 137;

/// The words of an OCI process's command line, for the title of what stands for it.
pub(crate) fn command_line(process: &Value) -> impl Iterator<Item = &str> {
    let arguments = process["args"].as_array();
    arguments.into_iter().flatten().filter_map(Value::as_str)
}
