//! One request of the guest: descriptors, linked by their numbers in a table.
//!
//! Owns the walk along them. Their contents are hostile and may change while it is
//! read, so each is read once per walk, and a walk is never longer than the queue.

use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Error, Queue, QueueOwnedT, QueueT};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryMmap};

/// Most descriptors of one chain: the longest that a driver of these devices makes is a
/// disk's request.
const MAX_DESCRIPTORS: u16 = 128;

/// Bytes of one in a table.
const DESCRIPTOR_LEN: u32 = 16;
const _: () = assert!(DESCRIPTOR_LEN as usize == size_of::<Descriptor>());

/// Whether a descriptor may stand for a table of further ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IndirectTables {
    /// No: `VIRTIO_RING_F_INDIRECT_DESC` is not offered.
    Refused,
    /// Yes, one in a chain. QEMU offers that feature to the guest whatever a
    /// vhost-user back end offers.
    Followed,
}

/// A chain that the guest made available.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chain<'m> {
    head: u16,
    start: Descriptors<'m>,
}

impl<'m> Chain<'m> {
    /// The next one of `ring`, if there is one.
    pub(crate) fn next_of(
        ring: &mut Queue,
        mem: &'m GuestMemoryMmap,
        tables: IndirectTables,
    ) -> Result<Option<Self>, Error> {
        let (table, len) = (GuestAddress(ring.desc_table()), ring.size());
        let Some(chain) = ring.iter(mem)?.next() else {
            return Ok(None);
        };
        let head = chain.head_index();
        let start = Descriptors {
            mem,
            table,
            table_len: len.into(),
            next: Some(head),
            left: len.min(MAX_DESCRIPTORS),
            byte_len: 0,
            tables,
        };
        Ok(Some(Self { head, start }))
    }

    /// Its number in the used ring.
    pub(crate) fn head_index(&self) -> u16 {
        self.head
    }

    /// All its descriptors, in order. The first error is the last item.
    pub(crate) fn descriptors(&self) -> Descriptors<'m> {
        self.start
    }

    /// Those that the device may read.
    pub(crate) fn readable(&self) -> impl Iterator<Item = Result<Descriptor, Error>> {
        self.descriptors()
            .filter(|item| !matches!(item, Ok(descriptor) if descriptor.is_write_only()))
    }

    /// Those that the device may write.
    pub(crate) fn writable(&self) -> impl Iterator<Item = Result<Descriptor, Error>> {
        self.descriptors()
            .filter(|item| !matches!(item, Ok(descriptor) if !descriptor.is_write_only()))
    }
}

/// A walk along a chain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Descriptors<'m> {
    mem: &'m GuestMemoryMmap,
    table: GuestAddress,
    /// Descriptors in the table.
    table_len: u32,
    next: Option<u16>,
    /// How many more a chain may have.
    left: u16,
    /// Bytes of all so far: fewer than 2^32 (virtio 1.3, section 2.7.5.2).
    byte_len: u32,
    tables: IndirectTables,
}

impl Descriptors<'_> {
    fn read(&mut self, index: u16) -> Result<Descriptor, Error> {
        let mut descriptor = self.at(index)?;
        if descriptor.refers_to_indirect_table() {
            self.enter(&descriptor)?;
            descriptor = self.at(0)?;
        }
        if descriptor.refers_to_indirect_table() {
            return Err(Error::InvalidIndirectDescriptor);
        }
        self.left = self.left.checked_sub(1).ok_or(Error::InvalidChain)?;
        let byte_len = self.byte_len.checked_add(descriptor.len());
        self.byte_len = byte_len.ok_or(Error::DescriptorChainOverflow)?;
        self.next = descriptor.has_next().then(|| descriptor.next());
        Ok(descriptor)
    }

    fn at(&self, index: u16) -> Result<Descriptor, Error> {
        if u32::from(index) >= self.table_len {
            return Err(Error::InvalidDescriptorIndex);
        }
        let offset = u64::from(index) * u64::from(DESCRIPTOR_LEN);
        let address = self.table.checked_add(offset);
        let address = address.ok_or(Error::AddressOverflow)?;
        self.mem.read_obj(address).map_err(Error::GuestMemory)
    }

    fn enter(&mut self, table: &Descriptor) -> Result<(), Error> {
        if self.tables == IndirectTables::Refused {
            return Err(Error::InvalidIndirectDescriptor);
        }
        self.tables = IndirectTables::Refused;
        self.table = table.addr();
        self.table_len = table.len() / DESCRIPTOR_LEN;
        Ok(())
    }
}

impl Iterator for Descriptors<'_> {
    type Item = Result<Descriptor, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.next.take()?;
        Some(self.read(index))
    }
}

#[cfg(test)]
#[path = "chain_test.rs"]
mod tests;
