//! The test host: a Debian machine with a usable `/dev/kvm`, emulated by QEMU,
//! that tests restore from a saved state in about a second.
//!
//! [`TestHost`] starts and ends one, [`Client`] runs commands in it, [`server`]
//! is the other end inside of it, [`batch`] boots one for instruction-counted
//! measurements. Building disk and saved state is the work of the scripts
//! beside this crate.

pub mod batch;
pub mod client;
mod machine;
mod protocol;
mod qmp;
pub mod server;
mod session;
pub mod supervisor;
pub mod test_host;
mod transfer;
mod work_dir;

pub use client::{Client, Command, Output};
pub use protocol::Status;
pub use test_host::TestHost;
