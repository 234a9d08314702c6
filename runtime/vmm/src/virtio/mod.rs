//! Virtio devices and the way the guest reaches them.
//!
//! `device` is the seam between the two: devices below it know no transport, the
//! transport knows no device.

pub mod device;
