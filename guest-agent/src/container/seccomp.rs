//! The system-call filter of a container's processes.
//!
//! Owns the check of what the host has sent. What the program decides is the
//! host's business, when it is installed is `setup`'s.

use std::process::Command;

use caisson_protocol::server::agent::Seccomp;

use crate::{
    failure::{Attempt, Failure},
    sys::{filter_command, install_filter},
};

/// Size of `struct sock_filter`.
const INSTRUCTION_BYTES: usize = 8;
/// `BPF_MAXINSNS` of linux/bpf_common.h.
const MAX_INSTRUCTIONS: usize = 4096;

/// A filter, ready to be installed.
#[derive(Debug)]
pub(crate) struct Filter {
    program: Vec<libc::sock_filter>,
    flags: u32,
}

impl Filter {
    /// Reads the host's message; no message means no filter.
    ///
    /// # Errors
    /// [`Failure::Refused`] for what can't be a program.
    pub(crate) fn parse(sent: Option<&Seccomp>) -> Result<Option<Self>, Failure> {
        let Some(sent) = sent else {
            return Ok(None);
        };
        let (instructions, rest) = sent.program.as_chunks::<INSTRUCTION_BYTES>();
        let count = instructions.len();
        if !rest.is_empty() || count == 0 || count > MAX_INSTRUCTIONS {
            let bytes = sent.program.len();
            return Err(Failure::Refused(format!(
                "the filter of system calls ({bytes} bytes) is no program"
            )));
        }
        let program = instructions.iter().map(instruction).collect();
        let flags = sent.flags;
        Ok(Some(Self { program, flags }))
    }

    /// Puts what `command` starts under the filter, and not this process.
    pub(crate) fn install_in(&self, command: &mut Command) {
        filter_command(command, self.program.clone(), self.flags);
    }

    /// Puts this process and all its children under the filter.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) fn install(&self) -> Result<(), Failure> {
        install_filter(&mut self.program.clone(), self.flags)
            .step("install the filter of system calls")
    }
}

fn instruction([c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; INSTRUCTION_BYTES]) -> libc::sock_filter {
    libc::sock_filter {
        code: u16::from_le_bytes([*c0, *c1]),
        jt: *jt,
        jf: *jf,
        k: u32::from_le_bytes([*k0, *k1, *k2, *k3]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(program: Vec<u8>) -> Result<Option<Filter>, Failure> {
        let sent = Seccomp {
            program,
            flags: 4,
            ..Default::default()
        };
        Filter::parse(Some(&sent))
    }

    #[test]
    fn a_program_is_whole_instructions() {
        let filter = parse(vec![6, 0, 0, 0, 0, 0, 0xff, 0x7f]).unwrap().unwrap();
        let [only] = filter.program.as_slice() else {
            panic!("{} instructions", filter.program.len());
        };
        assert_eq!((only.code, only.k, filter.flags), (6, 0x7fff_0000, 4));
    }

    #[test]
    fn what_can_not_be_a_program_is_refused() {
        for length in [0, 7, 9, 8 * 4097] {
            let line = parse(vec![0; length]).unwrap_err().line();
            assert!(line.contains(&format!("({length} bytes)")), "{line}");
        }
    }

    #[test]
    fn no_message_is_no_filter() {
        assert!(Filter::parse(None).unwrap().is_none());
    }
}
