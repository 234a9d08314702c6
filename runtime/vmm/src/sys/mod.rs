//! Every `unsafe` of the crate, behind signatures that need none.
//!
//! `descriptors` takes over inherited descriptors, `kvm` hands memory to KVM,
//! `memory` gives advice on it, `packets` moves packets between it and a tap, `vhost`
//! leaves that to the kernel.

#![expect(
    unsafe_code,
    reason = "the one place for it; each block states why it is sound"
)]

mod descriptors;
mod kvm;
mod memory;
mod packets;
mod vhost;

#[expect(unreachable_pub, reason = "part of the public errors of two processes")]
pub use descriptors::TakeError;
pub(crate) use descriptors::{Inherited, receive_packet};
pub(crate) use kvm::{adopt_kvm, internal_error, map_memory, share_immediate_exit};
pub(crate) use memory::advise_huge_pages;
pub(crate) use packets::{
    MAX_PIECES, Pieces, TUN_SET_OFFLOAD, TUN_SET_QUEUE, set_tap_offloads, use_tap_queue,
};
pub(crate) use vhost::set_vhost_backend;
