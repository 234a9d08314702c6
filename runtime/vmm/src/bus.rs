//! Guest physical address -> slot. The only device registers of the machine are the
//! virtio-mmio slots.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::arch::{SLOT_LEN, SLOTS_BASE};
use crate::virtio::mmio::{Effect, Registers};

/// The slots, shared by all threads; each has its own lock, held for the time of one
/// register access.
#[derive(Debug)]
pub(crate) struct Bus {
    slots: Vec<Mutex<Registers>>,
}

impl Bus {
    /// A bus with `slots`, in address order.
    pub(crate) fn new(slots: impl IntoIterator<Item = Registers>) -> Self {
        Self {
            slots: slots.into_iter().map(Mutex::new).collect(),
        }
    }

    /// The guest wrote `bytes` at `address`: what has to be done about it, in which
    /// slot. Nothing for addresses without a slot.
    pub(crate) fn write(&self, address: u64, bytes: &[u8]) -> Option<(usize, Effect)> {
        let offset = address.checked_sub(SLOTS_BASE)?;
        let slot = usize::try_from(offset / SLOT_LEN).ok()?;
        let effect = self.registers(slot)?.write(offset % SLOT_LEN, bytes)?;
        Some((slot, effect))
    }

    /// The register file of `slot`.
    pub(crate) fn registers(&self, slot: usize) -> Option<MutexGuard<'_, Registers>> {
        let registers = self.slots.get(slot)?;
        Some(registers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The first slot without a device.
    pub(crate) fn first_empty(&self) -> Option<usize> {
        let mut slots = 0..self.slots.len();
        slots.find(|slot| {
            self.registers(*slot)
                .is_some_and(|registers| registers.is_empty())
        })
    }
}
