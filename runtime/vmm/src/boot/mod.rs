//! How a machine starts: what is in memory and in the vCPUs before the first
//! instruction. The one folder that knows x86_64.
//!
//! `kernel` loads the images (`image` copies them,
//! `extent` finds the kernel's place), `start_info` describes the machine to the kernel (PVH
//! protocol), `mp_table` or `acpi` the CPUs and interrupt lines, `cpuid` and `registers`
//! are the state of each vCPU.

pub(crate) mod acpi;
pub(crate) mod cpuid;
mod extent;
mod image;
pub(crate) mod kernel;
pub(crate) mod mp_table;
pub(crate) mod registers;
pub(crate) mod start_info;

/// Where KVM's interrupt controller for devices answers.
pub(crate) const IO_APIC_ADDRESS: u32 = 0xfec0_0000;
/// Where KVM's interrupt controller of each CPU answers.
pub(crate) const LOCAL_APIC_ADDRESS: u32 = 0xfee0_0000;
/// Interrupt line of slot 0; the others follow.
pub(crate) const FIRST_GSI: u32 = 5;
