//! One virtual machine and its helper processes.
//!
//! `boot` starts them in their order, `hypervisor` is either of the two ways to run a VM
//! (`kvm`, `tcg`, which `choice` chooses between), `fs_daemon` serves the shared files,
//! `vsock_ports` takes the guest's connections, `agent` calls the guest's agent over its
//! `agent_connection`, `network` keeps the VM's interfaces the same as those of a network
//! namespace, `limits` holds all of it to its cgroup on the host, `kill_escalation` ends
//! what a guest doesn't end. Knows no container: what runs in the guest is the business
//! of `monitor`.

pub(crate) mod agent;
pub mod agent_answers;
pub(crate) mod agent_connection;
pub(crate) mod agent_error;
pub(crate) mod boot;
pub mod choice;
pub(crate) mod clock;
pub mod error;
pub(crate) mod event;
pub(crate) mod fs_daemon;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub(crate) mod guest_memory;
pub(crate) mod host_path;
pub mod hypervisor;
pub mod hypervisor_error;
pub(crate) mod hypervisor_parts;
pub(crate) mod kernel;
pub(crate) mod kill_escalation;
pub(crate) mod kvm;
pub(crate) mod limits;
pub(crate) mod network;
pub(crate) mod nics;
pub(crate) mod overlay;
pub(crate) mod panic_log;
pub(crate) mod qemu;
pub(crate) mod served_shares;
pub(crate) mod shares;
pub(crate) mod steal_aware_deadline;
pub(crate) mod tcg;
pub(crate) mod tiny_guest;
pub(crate) mod vsock_ports;
pub(crate) mod wire_format;

pub use choice::{Choice, Kind, choose};
pub(crate) use choice::{find_qemu, judge_kvm};
pub use error::Error;
pub(crate) use tiny_guest::run_tiny_guest;
