//! The vsock device as a vhost-user back end: what `caisson-vsock` runs for QEMU.
//!
//! `process` is the course of the program, `backend` its device towards the library,
//! `syscalls` what it may ask of the kernel. The device itself is
//! [`crate::virtio::vsock`].

mod backend;
mod process;
mod syscalls;

pub use syscalls::TABLES;

pub use process::{BackendSpec, Error, run};
