//! The virtio-mmio transport (virtio 1.3, section 4.2), version 2 only.
//!
//! Split by thread: `registers` is what vCPUs write to, `page` what they read.
//! Reads never leave the guest: a slot's page is mapped read-only into it, so that
//! a load is a load and only a store reaches this process. None of the registers
//! has a side effect on reading, so nothing is lost by that.

mod interrupt;
mod page;
mod registers;

pub(crate) use interrupt::MmioInterrupt;
pub(crate) use page::{RegisterPage, RegisterWindow};
pub(crate) use registers::{Effect, Identity, Registers, Setup};
