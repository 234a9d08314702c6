//! Everything that is in guest memory before the first instruction.

use std::fs::File;

use linux_loader::configurator::Error as ConfiguratorError;
use vm_memory::GuestMemoryMmap;

use super::{acpi, kernel, mp_table, start_info};
use crate::spec::{Description, MachineSpec};

/// The guest can't be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The images can't be.
    #[error("load the guest")]
    Kernel(#[from] kernel::Error),
    /// The start information doesn't fit.
    #[error("describe the machine to the guest")]
    StartInfo(#[from] ConfiguratorError),
}

/// The files a guest starts from.
#[derive(Debug)]
pub(crate) struct Images {
    pub(crate) kernel: File,
    pub(crate) initramfs: File,
}

/// Puts images and descriptions of the machine into `mem`; returns the entry point.
pub(crate) fn load_guest(
    spec: &MachineSpec,
    mut images: Images,
    mem: &GuestMemoryMmap,
) -> Result<u64, LoadError> {
    let loaded = kernel::load(mem, &mut images.kernel, &mut images.initramfs)?;
    let acpi_root = describe(spec, mem)?;
    start_info::write(mem, spec.mem_mib, &loaded, acpi_root)?;
    Ok(loaded.entry)
}

/// Describes CPUs, interrupt lines and slots to the guest; returns where ACPI's root
/// pointer is, 0 for nowhere.
fn describe(spec: &MachineSpec, mem: &GuestMemoryMmap) -> Result<u64, kernel::Error> {
    let slots = spec.devices.slots();
    let count = u8::try_from(slots).unwrap_or(u8::MAX);
    match spec.description {
        Description::MpTable => {
            kernel::write_cmdline(mem, &kernel::cmdline(&spec.cmdline, slots))?;
            mp_table::write(mem, spec.vcpus, count)?;
            Ok(0)
        }
        Description::Acpi => {
            kernel::write_cmdline(mem, &spec.cmdline)?;
            acpi::write(mem, spec.vcpus, count)?;
            Ok(acpi::ROOT_POINTER_ADDRESS)
        }
    }
}
