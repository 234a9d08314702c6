//! Virtio devices and the way the guest reaches them.
//!
//! `device` is the seam between the two: devices know no transport, and the
//! transport, `mmio`, knows no device. `chains` serves a queue for any of them.

pub(crate) mod balloon;
pub(crate) mod block;
mod chains;
pub(crate) mod console;
pub mod device;
pub(crate) mod fs;
pub(crate) mod mmio;
pub(crate) mod net;
pub(crate) mod rng;
pub mod vsock;
