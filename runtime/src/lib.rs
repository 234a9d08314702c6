//! caisson on the host: OCI containers, each in its own virtual machine.
//!
//! The walk of `create`: `oci` reads config.json and plans, `container` keeps the record
//! and starts the `monitor`, which boots a `vm` and calls the guest's agent. `owner` is
//! how other commands reach that process. `cli` is one caller; a containerd shim is
//! another. `doctor` examines the host that all of it runs on.

pub mod cgroup;
pub mod cli;
pub mod config;
pub mod container;
pub mod doctor;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod hooks;
pub mod host;
pub mod log;
pub mod monitor;
pub mod network;
pub mod oci;
pub mod owner;
pub mod process;
pub mod sandbox;
pub mod seccomp;
pub mod setup;
mod sys;
pub mod vm;
