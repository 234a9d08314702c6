//! Containers get no socket of the family that leads to the host.
//!
//! `AF_VSOCK` is the agent's way to its owner. Nothing that a container may reach
//! listens there, and what its processes can't open they can't flood. Owns the
//! instructions that refuse it, which run before the profile's program. The token of
//! each connection is what proves the agent; this is the second barrier: io_uring(7)
//! and the i386 call socketcall(2) hide the family from a filter.

use crate::seccomp::program::{AUDIT_ARCH_I386, AUDIT_ARCH_X86_64, Instruction, X32_BIT, offset};

const AF_VSOCK: u32 = nix::libc::AF_VSOCK.unsigned_abs();
const SOCKET: u32 = 41;
const SOCKET_I386: u32 = 359;
/// What a kernel without the family answers.
const REFUSED: u32 = 0x0005_0000 | nix::libc::EAFNOSUPPORT.unsigned_abs();

/// Returns the instructions; behind them goes on what is allowed otherwise.
pub(super) fn prologue() -> [Instruction; 11] {
    [
        Instruction::load(offset::ARCHITECTURE),
        Instruction::if_equal(AUDIT_ARCH_X86_64, 0, 3),
        Instruction::load(offset::NUMBER),
        Instruction::if_equal(SOCKET, 4, 0),
        Instruction::if_equal(SOCKET | X32_BIT, 3, 6),
        Instruction::if_equal(AUDIT_ARCH_I386, 0, 5),
        Instruction::load(offset::NUMBER),
        Instruction::if_equal(SOCKET_I386, 0, 3),
        Instruction::load(offset::FIRST_ARGUMENT),
        Instruction::if_equal(AF_VSOCK, 0, 1),
        Instruction::answer(REFUSED),
    ]
}
