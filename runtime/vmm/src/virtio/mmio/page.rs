//! What the guest reads: one page per slot, mapped read-only into the guest.
//!
//! Owns the bytes, not their meaning. Written by vCPU threads (under the slot's
//! lock) and, for interrupts, by the event loop; hence atomic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use vm_memory::mmap::{FromRangesError, MmapRegion};
use vm_memory::{Bytes, GuestAddress, GuestMemoryRegion, GuestRegionMmap, VolatileMemory};

use crate::arch::{SLOT_LEN, SLOTS_BASE};

/// The pages of all slots, as one mapping.
#[derive(Debug)]
pub(crate) struct RegisterWindow {
    region: GuestRegionMmap,
}

impl RegisterWindow {
    /// Pages for `slots` slots, all zero.
    pub(crate) fn new(slots: usize) -> Result<Self, FromRangesError> {
        let region = GuestRegionMmap::from_range(GuestAddress(SLOTS_BASE), slots * PAGE, None)?;
        Ok(Self { region })
    }

    /// The mapping, to be put into the guest's address space.
    pub(crate) fn region(&self) -> &GuestRegionMmap {
        &self.region
    }

    /// The page of `slot`; `None` beyond the last.
    pub(crate) fn page(&self, slot: usize) -> Option<RegisterPage> {
        let base = slot.checked_mul(PAGE)?;
        let inside = (base as u64) < self.region.len();
        inside.then(|| RegisterPage {
            region: self.region.get_mmap(),
            base,
        })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a slot is one page")]
const PAGE: usize = SLOT_LEN as usize;

/// One slot's page.
#[derive(Debug, Clone)]
pub(crate) struct RegisterPage {
    region: Arc<MmapRegion>,
    base: usize,
}

impl RegisterPage {
    /// Shows `value` in the register at `offset`.
    pub(crate) fn store(&self, offset: u32, value: u32) {
        self.with(offset, |register| {
            register.store(value.to_le(), Ordering::Release)
        });
    }

    /// Adds `bits` to the register at `offset`.
    pub(crate) fn set_bits(&self, offset: u32, bits: u32) {
        self.with(offset, |register| {
            register.fetch_or(bits.to_le(), Ordering::AcqRel);
        });
    }

    /// Takes `bits` away from the register at `offset`.
    pub(crate) fn clear_bits(&self, offset: u32, bits: u32) {
        self.with(offset, |register| {
            register.fetch_and(!bits.to_le(), Ordering::AcqRel);
        });
    }

    /// Adds one to the register at `offset`.
    pub(crate) fn increment(&self, offset: u32) {
        self.with(offset, |register| {
            register.fetch_add(1, Ordering::AcqRel);
        });
    }

    /// Shows `bytes` from `offset` on, as far as the page reaches.
    pub(crate) fn store_bytes(&self, offset: u32, bytes: &[u8]) {
        let offset = offset as usize;
        let room = PAGE.saturating_sub(offset);
        let shown = bytes.get(..room).unwrap_or(bytes);
        let stored = self
            .region
            .as_volatile_slice()
            .write_slice(shown, self.base + offset);
        debug_assert!(stored.is_ok(), "a slot's page lies in the window");
    }

    /// The register at `offset`, as the guest sees it.
    #[cfg(test)]
    pub(crate) fn load(&self, offset: u32) -> u32 {
        let register: &AtomicU32 = self
            .region
            .get_atomic_ref(self.base + offset as usize)
            .unwrap();
        u32::from_le(register.load(Ordering::Acquire))
    }

    fn with(&self, offset: u32, change: impl FnOnce(&AtomicU32)) {
        let register = self.region.get_atomic_ref(self.base + offset as usize);
        debug_assert!(
            register.is_ok(),
            "registers are aligned and inside the page"
        );
        if let Ok(register) = register {
            change(register);
        }
    }
}
