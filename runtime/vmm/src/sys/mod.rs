//! Every `unsafe` of the crate, behind signatures that need none.
//!
//! `descriptors` takes over inherited descriptors, `kvm` hands memory to KVM.

#![expect(unsafe_code, reason = "the one place for it; each block states why it is sound")]

mod descriptors;
mod kvm;

pub use descriptors::TakeError;
pub(crate) use descriptors::Inherited;
pub(crate) use kvm::{adopt_kvm, map_memory};
