//! Virtio devices and the way the guest reaches them.
//!
//! `device` is the seam between the two: devices know no transport, and the
//! transport, `mmio`, knows no device. `turn` serves a queue for any of them, by the
//! descriptors of a `chain`, whose memory is a `span`.

pub(crate) mod balloon;
pub(crate) mod block;
mod chain;
pub(crate) mod console;
pub mod device;
pub(crate) mod fs;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod guest_ring;
pub(crate) mod mmio;
pub(crate) mod net;
pub(crate) mod rng;
mod span;
pub(crate) mod turn;
pub mod vsock;
