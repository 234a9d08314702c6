//! Where things are in the guest's physical address space, and its RAM.
//!
//! Owns the layout and its arithmetic. What is written into RAM before the start
//! is `boot`'s affair.
//!
//! ```text
//! 0            0x9fc00   1 MiB                3 GiB      0xd000_0000        4 GiB
//! | low RAM      | tables | RAM: kernel ... initramfs | gap | slots | APICs | RAM |
//! ```

use std::fs::File;
use std::io;
use std::sync::Arc;

use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};

/// End of low RAM (639 KiB). The guest takes what is from here to 1 MiB for a BIOS's,
/// and so looks for the MP table there.
pub(crate) const LOW_RAM_END: u64 = 0x9_fc00;
/// Start of the RAM a kernel is loaded into.
pub(crate) const HIGH_RAM_START: u64 = 0x10_0000;
/// RAM below 4 GiB ends here at the latest: above are slots and APICs.
pub(crate) const LOW_GAP_START: u64 = 3 << 30;
/// RAM goes on here.
pub(crate) const LOW_GAP_END: u64 = 4 << 30;

/// First virtio-mmio slot.
pub(crate) const SLOTS_BASE: u64 = 0xd000_0000;
/// Bytes of one slot; one page, so that each can be mapped by itself.
pub(crate) const SLOT_LEN: u64 = 0x1000;

/// Three pages that KVM needs on hosts without unrestricted guests.
pub(crate) const KVM_TSS: usize = 0xfffb_d000;

/// Why guest memory could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The memory descriptor can't be examined.
    #[error("examine the memory file")]
    Examine(#[source] io::Error),
    /// The memory descriptor is shorter than the machine's memory.
    #[error("the memory file has {actual} bytes, the machine {wanted}")]
    Short {
        /// Length of the file.
        actual: u64,
        /// Length of guest memory.
        wanted: u64,
    },
    /// A region can't be mapped.
    #[error("map guest memory")]
    Map(#[source] vm_memory::mmap::FromRangesError),
}

/// One stretch of RAM and where it is in the memory file. Units: bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RamRange {
    pub(crate) start: u64,
    pub(crate) len: u64,
    pub(crate) file_offset: u64,
}

/// How `mem_mib` MiB of RAM lie around the gap below 4 GiB.
pub(crate) fn ram_ranges(mem_mib: u32) -> Vec<RamRange> {
    let total = u64::from(mem_mib) << 20;
    let below = total.min(LOW_GAP_START);
    let mut ranges = vec![RamRange {
        start: 0,
        len: below,
        file_offset: 0,
    }];
    if total > below {
        ranges.push(RamRange {
            start: LOW_GAP_END,
            len: total - below,
            file_offset: below,
        });
    }
    ranges
}

/// Maps the memory file as guest RAM, shared with whoever else has the file.
pub(crate) fn map(file: File, mem_mib: u32) -> Result<GuestMemoryMmap, Error> {
    let actual = file.metadata().map_err(Error::Examine)?.len();
    let wanted = u64::from(mem_mib) << 20;
    if actual < wanted {
        return Err(Error::Short { actual, wanted });
    }
    let file = Arc::new(file);
    let ranges = ram_ranges(mem_mib).into_iter().map(|range| {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the largest machine has 2^40 bytes and usize has 64 bits"
        )]
        let len = range.len as usize;
        let offset = FileOffset::from_arc(Arc::clone(&file), range.file_offset);
        (GuestAddress(range.start), len, Some(offset))
    });
    GuestMemoryMmap::from_ranges_with_files(ranges.collect::<Vec<_>>()).map_err(Error::Map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{MAX_MEM_MIB, MAX_SLOTS, MIN_MEM_MIB};

    #[test]
    fn ram_has_the_asked_length_and_leaves_the_gap_free() {
        for mem_mib in [MIN_MEM_MIB, 512, 3071, 3072, 3073, 8192, MAX_MEM_MIB] {
            let ranges = ram_ranges(mem_mib);
            let total: u64 = ranges.iter().map(|range| range.len).sum();
            assert_eq!(total, u64::from(mem_mib) << 20);
            for range in &ranges {
                let end = range.start + range.len;
                assert!(end <= LOW_GAP_START || range.start >= LOW_GAP_END);
            }
            let file_end = ranges.last().map(|range| range.file_offset + range.len);
            assert_eq!(file_end, Some(total));
        }
    }

    #[test]
    fn slots_lie_between_ram_and_the_interrupt_controllers() {
        let end = SLOTS_BASE + SLOT_LEN * u64::try_from(MAX_SLOTS).unwrap();
        const { assert!(SLOTS_BASE >= LOW_GAP_START) };
        assert!(end <= u64::from(crate::boot::IO_APIC_ADDRESS));
    }

    #[test]
    fn a_short_memory_file_is_refused() {
        let file = vmm_sys_util::tempfile::TempFile::new().unwrap().into_file();
        file.set_len(1 << 20).unwrap();
        assert!(matches!(map(file, 48), Err(Error::Short { .. })));
    }
}
