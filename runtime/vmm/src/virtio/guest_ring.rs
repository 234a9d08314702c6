//! The guest's side of a ring, for tests and fuzz targets: it writes whatever it is given
//! to. Owns where the parts of a ring are.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;

use super::device::{ActiveQueues, Events, Interrupt};

/// `VRING_DESC_F_NEXT`: another descriptor follows.
pub(crate) const NEXT: u16 = 1;
/// `VRING_DESC_F_WRITE`: the device writes.
pub(crate) const WRITE: u16 = 2;
/// `VRING_DESC_F_INDIRECT`: a table of descriptors.
#[cfg(test)]
pub(crate) const INDIRECT: u16 = 4;
/// Where the two rings are behind the table, for up to so many entries.
const MAX_LEN: u16 = 1024;
const AVAILABLE_AT: u64 = 0x4000;
const USED_AT: u64 = 0x5000;
/// Bytes that one ring takes.
pub(crate) const RING_BYTES: u64 = 0x8000;

/// A ring from the guest's side.
#[derive(Debug, Clone)]
pub(crate) struct GuestRing {
    mem: GuestMemoryMmap,
    base: u64,
    len: u16,
}

impl GuestRing {
    /// An empty ring of `len` entries, up to 1024, in the `RING_BYTES` from `base` on.
    pub(crate) fn new(mem: &GuestMemoryMmap, base: u64, len: u16) -> Self {
        let ring = Self {
            mem: mem.clone(),
            base,
            len: len.min(MAX_LEN),
        };
        ring.store(USED_AT + 2, 0_u16);
        ring
    }

    /// The same ring as the device has it.
    pub(crate) fn queue(&self) -> Queue {
        let mut queue = Queue::new(MAX_LEN).unwrap_or_else(|_| unreachable!("a power of two"));
        let halves = |offset: u64| {
            let [a, b, c, d, e, f, g, h] = (self.base + offset).to_le_bytes();
            let half = |bytes| Some(u32::from_le_bytes(bytes));
            (half([a, b, c, d]), half([e, f, g, h]))
        };
        queue.set_size(self.len);
        let (low, high) = halves(0);
        queue.set_desc_table_address(low, high);
        let (low, high) = halves(AVAILABLE_AT);
        queue.set_avail_ring_address(low, high);
        let (low, high) = halves(USED_AT);
        queue.set_used_ring_address(low, high);
        queue.set_ready(true);
        queue
    }

    /// Puts a descriptor into the table.
    pub(crate) fn describe(&self, index: u16, descriptor: Descriptor) {
        let offset = u64::from(index) * size_of::<Descriptor>() as u64;
        self.store(offset, descriptor);
    }

    /// Makes the chain that begins with `head` available as number `position`, which
    /// isn't announced yet.
    pub(crate) fn offer(&self, position: u16, head: u16) {
        let slot = u64::from(position % self.len);
        self.store(AVAILABLE_AT + 4 + 2 * slot, head.to_le());
    }

    /// Announces every chain up to number `count`, or whatever else.
    pub(crate) fn announce(&self, count: u16) {
        self.store(AVAILABLE_AT + 2, count.to_le());
    }

    /// Offers the same chain in every entry.
    #[cfg(test)]
    pub(crate) fn fill_with(&self, head: u16) {
        for position in 0..self.len {
            self.offer(position, head);
        }
        self.announce(self.len);
    }

    /// How many chains came back.
    pub(crate) fn used(&self) -> u16 {
        let count = self.mem.read_obj(GuestAddress(self.base + USED_AT + 2));
        u16::from_le(count.unwrap_or(0))
    }

    fn store<T: vm_memory::ByteValued>(&self, offset: u64, value: T) {
        let stored = self.mem.write_obj(value, GuestAddress(self.base + offset));
        debug_assert!(stored.is_ok(), "a ring lies in memory");
    }
}

/// An event loop that only counts, and an interrupt that nobody hears.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    /// How often another turn was asked for, by queue.
    pub(crate) turns_asked: Vec<u16>,
}

impl Counting {
    /// How often since the last time.
    pub(crate) fn take_turns(&mut self) -> usize {
        std::mem::take(&mut self.turns_asked).len()
    }
}

impl Events for Counting {
    fn watch(&mut self, _: BorrowedFd<'_>, _: EventSet, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn rewatch(&mut self, _: BorrowedFd<'_>, _: EventSet, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn unwatch(&mut self, _: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }

    fn come_again(&mut self, queue: u16) -> io::Result<()> {
        self.turns_asked.push(queue);
        Ok(())
    }
}

impl Interrupt for Counting {
    fn queue_used(&self, _queue: u16) {}

    fn config_changed(&self) {}
}

/// What a device is activated with, for these rings.
pub(crate) fn active(rings: &[&GuestRing], features: u64) -> ActiveQueues {
    let mem = rings.first().map(|ring| ring.mem.clone());
    ActiveQueues {
        mem: mem.unwrap_or_default(),
        queues: rings.iter().map(|ring| ring.queue()).collect(),
        features,
        interrupt: Arc::new(Counting::default()),
    }
}
