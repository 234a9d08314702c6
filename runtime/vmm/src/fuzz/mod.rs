//! Functions of bytes that the driver in `tests/fuzz` calls: what a hostile guest, or a
//! hostile image, could do to this crate, as the bytes have it.
//!
//! Owns the worlds around the code that is tried. A panic is a finding; so is work
//! beyond a stated budget.

mod image;
mod machine;
mod queues;
mod vsock;

pub use image::kernel_image;
pub use machine::register_writes;
pub use queues::{
    balloon_queues, block_queues, console_queues, net_queues, rng_queues, vsock_queues,
};
pub use vsock::vsock_packets;
