//! What depends on the processor: everything else of this crate knows none.
//!
//! Owns the choice of the directory, which gives these names: the layout of guest memory
//! ([`SLOTS_BASE`], [`SLOT_LEN`], [`ram_ranges`]), [`interrupt_of`] a slot, [`prepare_vm`],
//! [`create_cpus`], [`load_guest`] (the images, and what describes the machine to them), and
//! [`ports`], the guest's ways out of the machine.

#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(all(target_arch = "x86_64", feature = "fuzz"))]
pub(crate) use x86_64::kernel;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{
    Images, LoadError, SLOT_LEN, SLOTS_BASE, SetUpError, create_cpus, interrupt_of, load_guest,
    ports, prepare_vm, ram_ranges,
};
