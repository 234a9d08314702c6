//! ACPI tables (ACPI 6.5, hardware-reduced): CPUs, interrupt lines, slots and the way
//! to switch off, for guests that learn of them in no other way, as kernels of
//! distributions do.
//!
//! Owns the first 64 KiB of the BIOS area. Boot with these tables costs a kernel time
//! in which caisson's own has started a container: it has no ACPI and gets `mp_table`.

use acpi_tables::aml::{
    Device, Interrupt, Memory32Fixed, Name, Package, Path, ResourceTemplate, Scope,
};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, AmlSink};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::layout::{SLOT_LEN, SLOTS_BASE};
use super::ports::{POWER_PORT, SOFT_OFF_TYPE};
use super::{FIRST_GSI, IO_APIC_ADDRESS, LOCAL_APIC_ADDRESS};

/// Where the root pointer is; the start information names it.
pub(crate) const ROOT_POINTER_ADDRESS: u64 = 0xe_0000;
/// The tables follow.
const TABLES_ADDRESS: u64 = ROOT_POINTER_ADDRESS + 0x40;
/// TableWriter begin at multiples of this many bytes.
const ALIGNMENT: u64 = 16;

const OEM: [u8; 6] = *b"CAISSN";
const TABLE: [u8; 8] = *b"CAISSON ";
const REVISION: u32 = 1;
const HEADER_LEN: u32 = 36;
/// 64-bit integers in the definition block.
const DSDT_REVISION: u8 = 2;
/// Boot architecture flags: no VGA, no CMOS clock to look for.
const NO_VGA: u16 = 1 << 2;
const NO_CMOS_CLOCK: u16 = 1 << 5;

/// Writes the tables for `vcpus` CPUs and `slots` virtio-mmio slots.
pub(crate) fn write(mem: &GuestMemoryMmap, vcpus: u8, slots: u8) -> Result<(), GuestMemoryError> {
    let mut tables = TableWriter {
        mem,
        next: TABLES_ADDRESS,
    };
    let dsdt = tables.put(&dsdt(slots))?;
    let fadt = tables.put(&fadt(dsdt).finalize())?;
    let madt = tables.put(&madt(vcpus))?;
    let mut root = XSDT::new(OEM, TABLE, REVISION);
    root.add_entry(fadt);
    root.add_entry(madt);
    let root = tables.put(&root)?;
    let pointer = bytes_of(&Rsdp::new(OEM, root));
    mem.write_slice(&pointer, GuestAddress(ROOT_POINTER_ADDRESS))
}

/// Puts tables one behind the other.
struct TableWriter<'a> {
    mem: &'a GuestMemoryMmap,
    next: u64,
}

impl TableWriter<'_> {
    /// Writes `table`; returns where.
    fn put(&mut self, table: &dyn Aml) -> Result<u64, GuestMemoryError> {
        let bytes = bytes_of(table);
        let address = self.next;
        self.mem.write_slice(&bytes, GuestAddress(address))?;
        self.next = (address + bytes.len() as u64).next_multiple_of(ALIGNMENT);
        Ok(address)
    }
}

fn bytes_of(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

/// No fixed hardware but the register that switches off (ACPI 6.5, 4.8.3.7).
fn fadt(dsdt: u64) -> FADTBuilder {
    let port = |number: u16| {
        let (space, size) = (AddressSpace::SystemIo, AccessSize::ByteAccess);
        GAS::new(space, 8, 0, size, number.into())
    };
    let mut fadt = FADTBuilder::new(OEM, TABLE, REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::Headless);
    fadt.iapc_boot_arch = (NO_VGA | NO_CMOS_CLOCK).into();
    fadt.sleep_control_reg = port(POWER_PORT);
    // Answers as an empty bus does, and so always that the machine is awake.
    fadt.sleep_status_reg = port(POWER_PORT + 1);
    fadt
}

fn madt(vcpus: u8) -> MADT {
    let local = LocalInterruptController::Address(LOCAL_APIC_ADDRESS);
    let mut madt = MADT::new(OEM, TABLE, REVISION, local);
    for id in 0..vcpus {
        let enabled = EnabledStatus::Enabled;
        madt.add_structure(ProcessorLocalApic::new(id, id, enabled));
    }
    madt.add_structure(IoApic::new(vcpus, IO_APIC_ADDRESS, 0));
    madt
}

/// A virtio-mmio device for each slot, and the type of the "off" state.
fn dsdt(slots: u8) -> Sdt {
    let mut body = Vec::new();
    let off = Package::new(vec![&SOFT_OFF_TYPE]);
    Name::new("_S5_".into(), &off).to_aml_bytes(&mut body);
    for slot in 0..slots {
        append_slot(&mut body, slot);
    }
    let mut dsdt = Sdt::new(*b"DSDT", HEADER_LEN, DSDT_REVISION, OEM, TABLE, REVISION);
    dsdt.append_slice(&body);
    dsdt
}

/// The device that drivers of virtio-mmio bind to is `LNRO0005`.
fn append_slot(body: &mut dyn AmlSink, slot: u8) {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the slots lie below 4 GiB, as a test of the layout shows"
    )]
    let (base, len) = (
        (SLOTS_BASE + SLOT_LEN * u64::from(slot)) as u32,
        SLOT_LEN as u32,
    );
    let registers = Memory32Fixed::new(true, base, len);
    let line = Interrupt::new(true, true, false, false, FIRST_GSI + u32::from(slot));
    let hardware = Name::new("_HID".into(), &"LNRO0005");
    let number = Name::new("_UID".into(), &slot);
    let coherent = Name::new("_CCA".into(), &1_u8);
    let resources = ResourceTemplate::new(vec![&registers, &line]);
    let resources = Name::new("_CRS".into(), &resources);
    let name = format!("V{slot:03}");
    let device = Device::new(
        Path::new(&name),
        vec![&hardware, &number, &coherent, &resources],
    );
    Scope::new("_SB_".into(), vec![&device]).to_aml_bytes(body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{MAX_SLOTS, MAX_VCPUS};

    const AREA_END: u64 = 0xf_0000;

    fn long(mem: &GuestMemoryMmap, at: u64) -> u64 {
        mem.read_obj(GuestAddress(at)).unwrap()
    }

    /// The table at `at`, whose bytes add up to zero.
    fn table(mem: &GuestMemoryMmap, at: u64) -> Vec<u8> {
        let len: u32 = mem.read_obj(GuestAddress(at + 4)).unwrap();
        let mut bytes = vec![0; len as usize];
        mem.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!(sum, 0, "{at:#x}");
        assert!(at + u64::from(len) <= AREA_END);
        bytes
    }

    #[test]
    fn the_largest_machine_is_found_from_the_root_pointer() {
        let mem = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        write(&mem, MAX_VCPUS, u8::try_from(MAX_SLOTS).unwrap()).unwrap();
        let root = long(&mem, ROOT_POINTER_ADDRESS + 24);
        assert_eq!(&table(&mem, root)[..4], b"XSDT");
        let fadt = table(&mem, long(&mem, root + 36));
        assert_eq!(&fadt[..4], b"FACP");
        let madt = table(&mem, long(&mem, root + 44));
        assert_eq!(madt.len(), 44 + 8 * usize::from(MAX_VCPUS) + 12);
        let dsdt = table(&mem, u64::from_le_bytes(fadt[140..148].try_into().unwrap()));
        let slots = dsdt.windows(8).filter(|text| *text == b"LNRO0005");
        assert_eq!(slots.count(), MAX_SLOTS);
    }
}
