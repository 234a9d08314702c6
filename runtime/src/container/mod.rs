//! A container as commands see it: its record on disk, what can be asked of its monitor,
//! and the streams that a command hands to a process.

pub mod create;
pub(crate) mod creator;
pub mod detached_exec;
pub(crate) mod exec_relay;
pub mod handle;
pub mod left_behind;
pub mod preserved_fds;
pub mod resources;
pub mod sd_notify;
pub mod send_fd;
pub mod session;
pub mod signals;
pub mod statistics;
pub mod stdio;
pub mod store;
pub mod terminal;

pub use handle::{Container, Error, State};
