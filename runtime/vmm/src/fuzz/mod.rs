//! Functions of bytes that the driver in `tests/fuzz` calls: what a hostile guest, or a
//! hostile image, could do to this crate, told by the bytes.
//!
//! Owns the worlds around the code that is tried. A panic is a finding; so is work
//! beyond a stated budget.

mod vsock;

pub use vsock::vsock_packets;
