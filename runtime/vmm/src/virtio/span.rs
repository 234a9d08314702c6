//! Guest memory of one descriptor chain, as slices that system calls take directly.
//!
//! Owns the way from hostile descriptors to checked memory. Knows no packets.

use virtio_queue::Error;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{GuestMemory, GuestMemoryMmap, Permissions, VolatileSlice};

use super::chain::Chain;

/// Memory in one or more pieces, read or written front to back.
#[derive(Debug, Default)]
pub(crate) struct Span<'m> {
    slices: Vec<VolatileSlice<'m>>,
}

impl<'m> Span<'m> {
    /// The bytes that the device may read.
    ///
    /// # Errors
    /// The chain is broken, or leaves guest memory.
    pub(crate) fn readable(mem: &'m GuestMemoryMmap, chain: &Chain<'_>) -> Result<Self, Error> {
        Self::gather(mem, chain.readable(), Permissions::Read)
    }

    /// The bytes that the device may write; else as `readable`.
    pub(crate) fn writable(mem: &'m GuestMemoryMmap, chain: &Chain<'_>) -> Result<Self, Error> {
        Self::gather(mem, chain.writable(), Permissions::Write)
    }

    fn gather(
        mem: &'m GuestMemoryMmap,
        descriptors: impl Iterator<Item = Result<Descriptor, Error>>,
        access: Permissions,
    ) -> Result<Self, Error> {
        let mut slices = Vec::with_capacity(2);
        for descriptor in descriptors {
            let descriptor = descriptor?;
            // Every length fits: usize has 64 bits.
            let len = usize::try_from(descriptor.len()).unwrap_or(usize::MAX);
            let parts = GuestMemory::get_slices(mem, descriptor.addr(), len, access)
                .map_err(Error::GuestMemory)?;
            for part in parts {
                slices.push(part.map_err(Error::GuestMemory)?);
            }
        }
        Ok(Self { slices })
    }

    /// Its pieces.
    pub(crate) fn slices(&self) -> &[VolatileSlice<'m>] {
        &self.slices
    }

    /// Bytes in all pieces.
    pub(crate) fn byte_len(&self) -> usize {
        // A chain is shorter than 2^32 bytes: `Chain` sees to that.
        self.slices.iter().map(VolatileSlice::len).sum()
    }

    /// Cuts the first `len` bytes off. `None`: there are fewer.
    pub(crate) fn split_front(&mut self, len: usize) -> Option<Self> {
        let mut front = Vec::with_capacity(1);
        let mut missing = len;
        while missing > 0 {
            let first = self.slices.first_mut()?;
            let (head, tail) = first.split_at(missing.min(first.len())).ok()?;
            missing -= head.len();
            front.push(head);
            if tail.is_empty() {
                self.slices.remove(0);
            } else {
                *first = tail;
            }
        }
        Some(Self { slices: front })
    }

    /// Cuts off as many of the first `most` bytes as there are.
    pub(crate) fn take_front(&mut self, most: usize) -> Self {
        let len = most.min(self.byte_len());
        self.split_front(len).unwrap_or_default()
    }

    /// Copies from the guest into `bytes`, as far as both reach.
    pub(crate) fn copy_to(&self, mut bytes: &mut [u8]) {
        for slice in &self.slices {
            let copied = slice.copy_to(bytes);
            bytes = bytes.get_mut(copied..).unwrap_or_default();
        }
    }

    /// Copies `bytes` to the guest, as far as both reach.
    pub(crate) fn copy_from(&self, mut bytes: &[u8]) {
        for slice in &self.slices {
            let len = bytes.len().min(slice.len());
            let (now, later) = bytes.split_at(len);
            slice.copy_from(now);
            bytes = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(memory: &mut [Vec<u8>]) -> Span<'_> {
        let slices = memory
            .iter_mut()
            .map(|piece| VolatileSlice::from(piece.as_mut_slice()));
        Span {
            slices: slices.collect(),
        }
    }

    proptest! {
        #[test]
        fn pieces_read_as_one_whole(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..6),
            cut in 0..60usize,
        ) {
            let whole = pieces.concat();
            let mut memory = pieces.clone();
            let mut rest = span(&mut memory);
            let front = rest.split_front(cut);
            prop_assert_eq!(front.is_some(), cut <= whole.len());
            if let Some(front) = front {
                prop_assert_eq!(front.byte_len() + rest.byte_len(), whole.len());
                let mut bytes = vec![0; whole.len()];
                front.copy_to(&mut bytes);
                rest.copy_to(&mut bytes[cut..]);
                prop_assert_eq!(bytes, whole);
            }
        }

        #[test]
        fn what_is_copied_in_comes_out(
            lens in proptest::collection::vec(0..20usize, 1..6),
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let mut memory: Vec<Vec<u8>> = lens.iter().map(|len| vec![0; *len]).collect();
            span(&mut memory).copy_from(&bytes);
            let whole = memory.concat();
            let len = whole.len().min(bytes.len());
            prop_assert_eq!(&whole[..len], &bytes[..len]);
        }
    }
}
