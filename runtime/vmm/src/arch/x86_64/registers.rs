//! The state of a vCPU at its first instruction.
//!
//! The first CPU starts as the PVH protocol has it: 32-bit protected mode, flat
//! segments, no paging, `ebx` at the start information. The others wait for the
//! guest to start them; KVM resets them itself.

use kvm_bindings::{Msrs, kvm_msr_entry, kvm_segment};
use kvm_ioctls::{Error, VcpuFd};

use super::start_info::START_INFO_ADDRESS;

const CR0_PROTECTED: u64 = 1;
const CR0_EXTENSION_TYPE: u64 = 1 << 4;
/// The bit of `rflags` that is always set.
const RFLAGS_RESERVED: u64 = 2;

const CODE: u8 = 0xb;
const DATA: u8 = 0x3;
const BUSY_TSS: u8 = 0xb;

const MSR_MISC_ENABLE: u32 = 0x1a0;
const MISC_ENABLE_FAST_STRING: u64 = 1;
const MSR_MTRR_DEF_TYPE: u32 = 0x2ff;
/// MTRRs on, default type write-back: without it some hosts run early code uncached.
const MTRR_ENABLED_WRITE_BACK: u64 = 1 << 11 | 6;

/// Lets the first CPU begin at `entry`.
pub(crate) fn set_entry(vcpu: &VcpuFd, entry: u64) -> Result<(), Error> {
    let mut registers = vcpu.get_regs()?;
    registers.rip = entry;
    registers.rbx = START_INFO_ADDRESS;
    registers.rflags = RFLAGS_RESERVED;
    vcpu.set_regs(&registers)?;

    let mut special = vcpu.get_sregs()?;
    special.cr0 = CR0_PROTECTED | CR0_EXTENSION_TYPE;
    special.cr4 = 0;
    special.efer = 0;
    // The kernel loads its own descriptor table before it loads a segment, so these
    // need no table in memory.
    special.cs = flat(0x10, CODE);
    for segment in [
        &mut special.ds,
        &mut special.es,
        &mut special.fs,
        &mut special.gs,
        &mut special.ss,
    ] {
        *segment = flat(0x18, DATA);
    }
    special.tr = kvm_segment {
        limit: 0x67,
        selector: 0x20,
        type_: BUSY_TSS,
        present: 1,
        ..Default::default()
    };
    vcpu.set_sregs(&special)
}

/// Sets what a BIOS would have left in model-specific registers, on every CPU.
pub(crate) fn set_msrs(vcpu: &VcpuFd) -> Result<(), Error> {
    let entry = |index, data| kvm_msr_entry {
        index,
        data,
        ..Default::default()
    };
    let entries = [
        entry(MSR_MISC_ENABLE, MISC_ENABLE_FAST_STRING),
        entry(MSR_MTRR_DEF_TYPE, MTRR_ENABLED_WRITE_BACK),
    ];
    let msrs = Msrs::from_entries(&entries).map_err(|_| Error::new(libc_einval()))?;
    let set = vcpu.set_msrs(&msrs)?;
    if set < entries.len() {
        return Err(Error::new(libc_einval()));
    }
    Ok(())
}

const fn libc_einval() -> i32 {
    nix::errno::Errno::EINVAL as i32
}

/// A segment over the whole 4 GiB.
fn flat(selector: u16, type_: u8) -> kvm_segment {
    kvm_segment {
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    }
}
