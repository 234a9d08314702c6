//! x86-64: how its machine is laid out, starts and ends.
//!
//! `layout` is the address space. `vm` makes KVM's parts of it (TSS, interrupt controllers)
//! and the vCPUs, whose state `cpuid` and `registers` are. `load` puts into memory what the
//! guest finds there: `kernel` the images, `start_info` the PVH protocol's description of
//! the machine, `mp_table` or `acpi` that of CPUs and interrupt lines. `ports` are the
//! guest's ways out.

mod acpi;
mod cpuid;
pub(crate) mod kernel;
mod layout;
mod load;
mod mp_table;
pub(crate) mod ports;
mod registers;
mod start_info;
mod vm;

pub(crate) use layout::{SLOT_LEN, SLOTS_BASE, ram_ranges};
pub(crate) use load::{Images, LoadError, load_guest};
pub(crate) use vm::{SetUpError, create_cpus, prepare_vm};

/// Where KVM's interrupt controller for devices answers.
const IO_APIC_ADDRESS: u32 = 0xfec0_0000;
/// Where KVM's interrupt controller of each CPU answers.
const LOCAL_APIC_ADDRESS: u32 = 0xfee0_0000;
/// Interrupt line of slot 0; the others follow.
const FIRST_GSI: u32 = 5;

/// The interrupt line (GSI) of the device in slot number `slot`.
pub(crate) fn interrupt_of(slot: usize) -> u32 {
    (FIRST_GSI..).nth(slot).unwrap_or(u32::MAX)
}
