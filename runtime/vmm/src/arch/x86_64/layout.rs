//! Where things are in the guest's physical address space.
//!
//! Owns the layout and its arithmetic.
//!
//! ```text
//! 0            0x9fc00   1 MiB                3 GiB      0xd000_0000        4 GiB
//! | low RAM      | tables | RAM: kernel ... initramfs | gap | slots | APICs | RAM |
//! ```

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
        assert!(end <= u64::from(super::super::IO_APIC_ADDRESS));
    }
}
