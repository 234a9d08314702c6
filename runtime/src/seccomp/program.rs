//! A compiled filter as data: classic BPF instructions (linux/filter.h).

use serde::{Deserialize, Serialize};

/// A program with the flags for seccomp(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// What runs at each system call.
    pub program: Vec<Instruction>,
    /// `SECCOMP_FILTER_FLAG_*` of linux/seccomp.h.
    pub flags: u32,
}

/// `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "PackedInstruction", into = "PackedInstruction")]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// Instructions to skip if true.
    pub if_true: u8,
    /// Instructions to skip if false.
    pub if_false: u8,
    /// Operand.
    pub operand: u32,
}

/// An instruction as it is serialized: its fields in their order, without names, since a
/// filter has up to thousands of them.
#[derive(Clone, Serialize, Deserialize)]
struct PackedInstruction(u16, u8, u8, u32);

/// Offsets in `struct seccomp_data` (linux/seccomp.h).
pub(super) mod offset {
    pub(in super::super) const NUMBER: u32 = 0;
    pub(in super::super) const ARCHITECTURE: u32 = 4;
    /// The lower half.
    pub(in super::super) const FIRST_ARGUMENT: u32 = 16;
}

pub(super) const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
pub(super) const AUDIT_ARCH_I386: u32 = 0x4000_0003;
/// Marks the calls of x32, which shares its architecture with x86-64.
pub(super) const X32_BIT: u32 = 0x4000_0000;
/// `SECCOMP_RET_ALLOW`
pub(super) const ALLOW: u32 = 0x7fff_0000;

/// Size of `struct sock_filter`.
const INSTRUCTION_BYTES: usize = 8;

impl Instruction {
    /// Loads the word at `offset` of `struct seccomp_data`.
    pub(super) const fn load(offset: u32) -> Self {
        Self::plain(0x20, offset)
    }

    /// Ends with an answer to the kernel (`SECCOMP_RET_*`).
    pub(super) const fn answer(value: u32) -> Self {
        Self::plain(0x06, value)
    }

    /// Skips `count` instructions.
    pub(super) const fn skip(count: u32) -> Self {
        Self::plain(0x05, count)
    }

    /// Skips if the loaded word equals `operand`, or if it doesn't.
    pub(super) const fn if_equal(operand: u32, if_true: u8, if_false: u8) -> Self {
        Self::jump(0x15, operand, if_true, if_false)
    }

    /// Skips if the loaded word is greater than `operand`, or if it isn't.
    pub(super) const fn if_greater(operand: u32, if_true: u8, if_false: u8) -> Self {
        Self::jump(0x25, operand, if_true, if_false)
    }

    /// Skips if the loaded word has a bit of `operand`, or if it has none.
    pub(super) const fn if_any_bit(operand: u32, if_true: u8, if_false: u8) -> Self {
        Self::jump(0x45, operand, if_true, if_false)
    }

    const fn plain(code: u16, operand: u32) -> Self {
        Self::jump(code, operand, 0, 0)
    }

    const fn jump(code: u16, operand: u32, if_true: u8, if_false: u8) -> Self {
        Self {
            code,
            if_true,
            if_false,
            operand,
        }
    }

    /// Reads what libseccomp writes: whole instructions in this machine's byte order.
    pub(super) fn parse_all(bytes: &[u8]) -> Vec<Self> {
        let (instructions, _) = bytes.as_chunks::<INSTRUCTION_BYTES>();
        let parse = |[c0, c1, if_true, if_false, k0, k1, k2, k3]: &[u8; 8]| Self {
            code: u16::from_ne_bytes([*c0, *c1]),
            if_true: *if_true,
            if_false: *if_false,
            operand: u32::from_ne_bytes([*k0, *k1, *k2, *k3]),
        };
        instructions.iter().map(parse).collect()
    }

    fn to_bytes(self) -> [u8; INSTRUCTION_BYTES] {
        let [c0, c1] = self.code.to_le_bytes();
        let [k0, k1, k2, k3] = self.operand.to_le_bytes();
        [c0, c1, self.if_true, self.if_false, k0, k1, k2, k3]
    }
}

impl Filter {
    /// The program as the guest's kernel reads it.
    #[must_use]
    pub fn program_bytes(&self) -> Vec<u8> {
        let bytes = self.program.iter().copied();
        bytes.flat_map(Instruction::to_bytes).collect()
    }
}

impl From<PackedInstruction> for Instruction {
    fn from(packed: PackedInstruction) -> Self {
        let PackedInstruction(code, if_true, if_false, operand) = packed;
        Self::jump(code, operand, if_true, if_false)
    }
}

impl From<Instruction> for PackedInstruction {
    fn from(instruction: Instruction) -> Self {
        let Instruction {
            code,
            if_true,
            if_false,
            operand,
        } = instruction;
        Self(code, if_true, if_false, operand)
    }
}
