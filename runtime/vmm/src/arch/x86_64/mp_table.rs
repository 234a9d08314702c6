//! The MultiProcessor Specification 1.4 table: CPUs and interrupt lines for a guest
//! without ACPI.
//!
//! Only the lines of the machine's slots are listed, so that the guest programs no
//! other pin of the I/O APIC.

use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::layout::LOW_RAM_END;
use super::{FIRST_GSI, IO_APIC_ADDRESS, LOCAL_APIC_ADDRESS};

/// Where a BIOS would have it.
const TABLE_ADDRESS: u32 = 0xf_0000;
/// The last KiB of low memory: of the places where it may be, the one that is searched
/// first without being taken by other things.
const POINTER_ADDRESS: u64 = LOW_RAM_END;

const HEADER_LEN: usize = 44;
const CHECKSUM_AT: usize = 7;
const SPEC_REVISION: u8 = 4;
const LOCAL_APIC_VERSION: u8 = 0x14;
const IO_APIC_VERSION: u8 = 0x11;
/// Family 6, and the flags "FPU" and "APIC": nobody reads them where CPUID is.
const CPU_SIGNATURE: u32 = 0x600;
const CPU_FEATURES: u32 = 0x201;
const ENABLED: u8 = 1;
const BOOT_CPU: u8 = 2;
const EVERY_APIC: u8 = 0xff;

const ENTRY_CPU: u8 = 0;
const ENTRY_BUS: u8 = 1;
const ENTRY_IO_APIC: u8 = 2;
const ENTRY_LINE: u8 = 3;
const ENTRY_LOCAL_LINE: u8 = 4;
const VECTORED: u8 = 0;
const NMI: u8 = 1;
const EXTERNAL: u8 = 3;

/// The table for `vcpus` CPUs and `slots` lines.
fn build(vcpus: u8, slots: u8) -> Vec<u8> {
    let io_apic_id = vcpus;
    let mut entries = Entries::default();
    for apic_id in 0..vcpus {
        let flags = if apic_id == 0 {
            ENABLED | BOOT_CPU
        } else {
            ENABLED
        };
        entries.push(&[ENTRY_CPU, apic_id, LOCAL_APIC_VERSION, flags]);
        entries.extend(&CPU_SIGNATURE.to_le_bytes());
        entries.extend(&CPU_FEATURES.to_le_bytes());
        entries.extend(&[0; 8]);
    }
    entries.push(&[ENTRY_BUS, 0]);
    entries.extend(b"ISA   ");
    entries.push(&[ENTRY_IO_APIC, io_apic_id, IO_APIC_VERSION, ENABLED]);
    entries.extend(&IO_APIC_ADDRESS.to_le_bytes());
    for gsi in (FIRST_GSI.to_le_bytes()[0]..).take(slots.into()) {
        entries.push(&[ENTRY_LINE, VECTORED, 0, 0, 0, gsi, io_apic_id, gsi]);
    }
    entries.push(&[ENTRY_LOCAL_LINE, EXTERNAL, 0, 0, 0, 0, 0, 0]);
    entries.push(&[ENTRY_LOCAL_LINE, NMI, 0, 0, 0, 0, EVERY_APIC, 1]);
    entries.into_table()
}

/// Entries of the table, and how many they are.
#[derive(Default)]
struct Entries {
    bytes: Vec<u8>,
    count: u16,
}

impl Entries {
    fn push(&mut self, start: &[u8]) {
        self.count += 1;
        self.extend(start);
    }

    fn extend(&mut self, more: &[u8]) {
        self.bytes.extend_from_slice(more);
    }

    fn into_table(self) -> Vec<u8> {
        let len = u16::try_from(HEADER_LEN + self.bytes.len()).unwrap_or(u16::MAX);
        let mut table = Vec::with_capacity(len.into());
        table.extend_from_slice(b"PCMP");
        table.extend_from_slice(&len.to_le_bytes());
        table.extend_from_slice(&[SPEC_REVISION, 0]);
        table.extend_from_slice(b"CAISSON MACHINE     ");
        table.extend_from_slice(&[0; 6]);
        table.extend_from_slice(&self.count.to_le_bytes());
        table.extend_from_slice(&LOCAL_APIC_ADDRESS.to_le_bytes());
        table.extend_from_slice(&[0; 4]);
        table.extend(self.bytes);
        seal(&mut table, CHECKSUM_AT);
        table
    }
}

fn floating_pointer() -> Vec<u8> {
    let mut bytes = b"_MP_".to_vec();
    bytes.extend_from_slice(&TABLE_ADDRESS.to_le_bytes());
    // Length in 16-byte units, revision, checksum, five feature bytes: none.
    bytes.extend_from_slice(&[1, SPEC_REVISION, 0, 0, 0, 0, 0, 0]);
    seal(&mut bytes, 10);
    bytes
}

/// Sets the byte at `at` so that all bytes add up to zero.
fn seal(bytes: &mut [u8], at: usize) {
    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(checksum) = bytes.get_mut(at) {
        *checksum = checksum.wrapping_sub(sum);
    }
}

/// Writes the table for `vcpus` CPUs and `slots` interrupt lines.
pub(crate) fn write(mem: &GuestMemoryMmap, vcpus: u8, slots: u8) -> Result<(), GuestMemoryError> {
    mem.write_slice(&floating_pointer(), GuestAddress(POINTER_ADDRESS))?;
    mem.write_slice(&build(vcpus, slots), GuestAddress(TABLE_ADDRESS.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::spec::{MAX_SLOTS, MAX_VCPUS};

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    fn entry_len(kind: u8) -> usize {
        if kind == ENTRY_CPU { 20 } else { 8 }
    }

    proptest! {
        #[test]
        fn both_structures_are_sealed_and_counted(
            vcpus in 1..=MAX_VCPUS,
            slots in 0..=u8::try_from(MAX_SLOTS).unwrap(),
        ) {
            let table = build(vcpus, slots);
            prop_assert_eq!(sum(&floating_pointer()), 0);
            prop_assert_eq!(sum(&table), 0);
            let len = u16::from_le_bytes([table[4], table[5]]);
            prop_assert_eq!(usize::from(len), table.len());
            let count = u16::from_le_bytes([table[34], table[35]]);
            let mut rest = &table[HEADER_LEN..];
            for _ in 0..count {
                rest = &rest[entry_len(rest[0])..];
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn the_table_ends_below_1_mib(vcpus in 1..=MAX_VCPUS) {
            let end = TABLE_ADDRESS as usize + build(vcpus, 19).len();
            prop_assert!(end <= 0x10_0000);
        }
    }
}
