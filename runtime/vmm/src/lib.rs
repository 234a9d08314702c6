//! The virtual machine monitor: machines, not containers.
//!
//! `spec` and `control` are what its owner sees; everything else runs in the
//! `caisson-vmm` process only.

pub mod control;
pub mod spec;
