//! Calls newer than a profile get ENOSYS, so that programs fall back.
//!
//! A profile that denies by default answers EPERM to calls that were added to
//! Linux after it was written, and C libraries take that for a refusal instead
//! of trying the older call. As runc does, whatever is numbered above every
//! call that the profile names is answered ENOSYS before its own program runs.

use libseccomp::{ScmpArch, ScmpSyscall};
use oci_spec::runtime::{LinuxSeccomp, LinuxSyscall};

use crate::seccomp::program::{AUDIT_ARCH_I386, AUDIT_ARCH_X86_64, Instruction, X32_BIT, offset};

const ANSWER_ENOSYS: u32 = 0x0005_0000 | nix::libc::ENOSYS.unsigned_abs();

/// What runs before the profile's program. The guest's processor makes calls of
/// three architectures only; others fail in the program itself.
pub(super) fn prologue(profile: &LinuxSeccomp, architectures: &[ScmpArch]) -> Vec<Instruction> {
    let calls = profile.syscalls().as_deref().unwrap_or_default();
    let last = |arch| {
        let is_native = arch == ScmpArch::X8664;
        if is_native || architectures.contains(&arch) {
            last_call(calls, arch)
        } else {
            None
        }
    };
    let sections = [
        (
            AUDIT_ARCH_X86_64,
            last(ScmpArch::X8664),
            last(ScmpArch::X32),
        ),
        (AUDIT_ARCH_I386, last(ScmpArch::X86), None),
    ]
    .map(|(audit_arch, last, last_x32)| section(audit_arch, last, last_x32));
    let mut program = vec![Instruction::load(offset::ARCHITECTURE)];
    let mut left: usize = sections.iter().map(Vec::len).sum();
    for section in sections {
        left -= section.len();
        program.extend(section);
        // The next section needs the architecture; this one is done with it.
        if let Some(exit) = program.last_mut() {
            exit.operand = u32::try_from(left).unwrap_or(u32::MAX);
        }
    }
    program
}

/// Compares the number of a call of one architecture, ends with a skip to the
/// profile's program, and is skipped as a whole for other architectures.
fn section(audit_arch: u32, last: Option<u32>, last_x32: Option<u32>) -> Vec<Instruction> {
    let above = |last: Option<u32>| last.unwrap_or(u32::MAX);
    vec![
        Instruction::if_equal(audit_arch, 0, 6),
        Instruction::load(offset::NUMBER),
        Instruction::if_any_bit(X32_BIT, 0, 1),
        Instruction::if_greater(above(last_x32), 1, 2),
        Instruction::if_greater(above(last), 0, 1),
        Instruction::answer(ANSWER_ENOSYS),
        Instruction::skip(0),
    ]
}

/// The highest number of a call that the profile names. Negative ones are
/// libseccomp's own, for calls that the architecture doesn't have.
fn last_call(calls: &[LinuxSyscall], arch: ScmpArch) -> Option<u32> {
    let names = calls.iter().flat_map(LinuxSyscall::names);
    let numbers = names.filter_map(|name| ScmpSyscall::from_name_by_arch(name, arch).ok());
    numbers
        .filter_map(|call| u32::try_from(call.as_raw_syscall()).ok())
        .max()
        .filter(|&last| last != 0)
}
