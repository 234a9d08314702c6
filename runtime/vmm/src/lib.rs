//! The virtual machine monitor: machines, not containers.
//!
//! `spec` and `control` are what its owner sees; `process` is the whole of the
//! `caisson-vmm` binary and everything else its parts. `virtio` is also used by
//! `caisson-vsock`, which is `vsock_backend`.
//!
//! ```text
//! process -> machine -> memory, arch, boot, assembly (eventfds, slots, virtio)
//!                    -> vcpu threads -> bus (registers) -> mailbox
//!                    -> event_loop thread: mailbox, owner, slots
//! ```

mod arch;
mod assembly;
mod boot;
mod bus;
pub mod control;
pub mod error_chain;
mod event_loop;
mod eventfds;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod gate;
mod lifecycle;
mod machine;
mod mailbox;
mod memory;
#[cfg(any(test, feature = "fuzz"))]
mod model;
mod owner;
mod poller;
pub mod probe;
pub mod process;
pub mod seccomp;
mod slots;
pub mod spec;
mod sys;
mod vcpu;
mod vcpus;
pub mod virtio;
pub mod vsock_backend;
