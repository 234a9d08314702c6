//! The virtual machine monitor: machines, not containers.
//!
//! `spec` and `control` are what its owner sees; everything else runs in the
//! `caisson-vmm` process only. `virtio` is also used by `caisson-vsock`.

pub mod control;
pub mod spec;
pub mod virtio;
