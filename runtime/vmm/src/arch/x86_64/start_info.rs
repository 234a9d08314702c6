//! What a PVH kernel is handed at its start: memory map, initramfs, command line.
//!
//! Layout of the structures: Xen's `hvm_start_info`, version 1. Owns the low
//! addresses they are put at.

use linux_loader::configurator::pvh::PvhBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams, Error as ConfiguratorError};
use linux_loader::loader::elf::start_info::{
    hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use vm_memory::{GuestAddress, GuestMemoryMmap};

use super::kernel::{CMDLINE_ADDRESS, LoadedImages};
use super::layout::{HIGH_RAM_START, LOW_RAM_END, ram_ranges};

/// Where the start information is put; `ebx` holds this at the start.
pub(crate) const START_INFO_ADDRESS: u64 = 0x6000;
const MODULES_ADDRESS: u64 = 0x6040;
const MEMORY_MAP_ADDRESS: u64 = 0x7000;
/// "xEn3" with the high bit of the first byte set.
const MAGIC: u32 = 0x336e_c578;
const VERSION: u32 = 1;
/// `XEN_HVM_MEMMAP_TYPE_RAM`
const RAM: u32 = 1;

/// The memory map for `mem_mib` MiB: RAM without the BIOS area.
fn memory_map(mem_mib: u32) -> Vec<hvm_memmap_table_entry> {
    let mut entries = vec![ram(0, LOW_RAM_END)];
    for range in ram_ranges(mem_mib) {
        let start = range.start.max(HIGH_RAM_START);
        entries.push(ram(start, range.start + range.len - start));
    }
    entries
}

fn ram(addr: u64, size: u64) -> hvm_memmap_table_entry {
    hvm_memmap_table_entry {
        addr,
        size,
        type_: RAM,
        reserved: 0,
    }
}

/// Writes the start information for `images` in a machine of `mem_mib` MiB whose ACPI
/// root pointer is at `acpi_root`, 0 for none.
pub(crate) fn write(
    mem: &GuestMemoryMmap,
    mem_mib: u32,
    images: &LoadedImages,
    acpi_root: u64,
) -> Result<(), ConfiguratorError> {
    let memory_map = memory_map(mem_mib);
    let info = hvm_start_info {
        magic: MAGIC,
        version: VERSION,
        nr_modules: 1,
        modlist_paddr: MODULES_ADDRESS,
        cmdline_paddr: CMDLINE_ADDRESS,
        rsdp_paddr: acpi_root,
        memmap_paddr: MEMORY_MAP_ADDRESS,
        memmap_entries: u32::try_from(memory_map.len()).unwrap_or(0),
        ..Default::default()
    };
    let initramfs = hvm_modlist_entry {
        paddr: images.initramfs.start,
        size: images.initramfs.len,
        ..Default::default()
    };
    let mut params = BootParams::new(&info, GuestAddress(START_INFO_ADDRESS));
    params.set_sections(&memory_map, GuestAddress(MEMORY_MAP_ADDRESS));
    params.set_modules(&[initramfs], GuestAddress(MODULES_ADDRESS));
    PvhBootConfigurator::write_bootparams(&params, mem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_map_leaves_the_bios_area_and_the_gap_out() {
        let map = memory_map(4096);
        let spans: Vec<_> = map.iter().map(|e| (e.addr, e.addr + e.size)).collect();
        assert_eq!(
            spans,
            [(0, 0x9_fc00), (0x10_0000, 3 << 30), (4 << 30, 5 << 30)]
        );
    }

    #[test]
    fn the_structures_do_not_overlap() {
        let info_end = START_INFO_ADDRESS + size_of::<hvm_start_info>() as u64;
        let modules_end = MODULES_ADDRESS + size_of::<hvm_modlist_entry>() as u64;
        assert!(info_end <= MODULES_ADDRESS);
        assert!(modules_end <= MEMORY_MAP_ADDRESS);
    }
}
