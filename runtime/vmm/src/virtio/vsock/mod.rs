//! Streams between the guest and the owner of the machine (virtio 1.3, section 5.10).
//!
//! The guest connects to host ports; each connection becomes a socket that the owner
//! is handed. The host connects nowhere. One device code, used by `caisson-vmm`
//! ([`device`]) and by `caisson-vsock` for QEMU.
//!
//! ```text
//! virtqueues <-> pump <-> muxer <-> link = connection (state, credit) + stream (socket)
//!                         muxer  -> channel (new connections to the owner)
//!                         muxer <-  host (what is ready)
//! ```

pub mod channel;
pub mod connection;
pub mod credit;
pub mod device;
pub mod host;
pub mod link;
pub mod muxer;
pub mod packet;
pub mod pump;
pub mod stream;

/// Index of the queue with buffers for packets to the guest.
pub const RX_QUEUE: u16 = 0;
/// Index of the queue with packets of the guest.
pub const TX_QUEUE: u16 = 1;
/// Entries of the queues: rx, tx, event. Linux keeps a page of guest memory in each
/// entry of rx, and eight buffers in the event queue.
pub const QUEUE_SIZES: [u16; 3] = [64, 128, 8];
