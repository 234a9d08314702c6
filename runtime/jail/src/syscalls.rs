//! Which system calls a process may still make: tables in the source, compiled to a
//! filter at start.
//!
//! Owns the form of a table and what happens beside it. Which calls a helper needs is
//! its own affair, and the last step of its confinement.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};

/// A filter can't be built or installed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A table makes no program.
    #[error("build a system call filter")]
    Build(#[from] BackendError),
    /// The kernel doesn't take it.
    #[error("install a system call filter")]
    Install(#[from] seccompiler::Error),
}

/// One line of a table: a call, and what all has to be true of its arguments. A call
/// with several lines is allowed by each of them.
pub type Rule = (c_long, &'static [Argument]);

/// What is asked of one argument, by its index. Its lower 32 bits are compared, which
/// are all that the kernel looks at in flags, commands and requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// It has this value.
    Is(u8, u32),
    /// It has one of these values; at most once in a line.
    IsOneOf(u8, &'static [u32]),
    /// Under the mask, it has this value.
    Masked(u8, u32, u32),
}

impl Argument {
    /// It has none of these bits.
    #[must_use]
    pub const fn lacks(index: u8, bits: u32) -> Self {
        Self::Masked(index, bits, 0)
    }

    /// It has all of these bits.
    #[must_use]
    pub const fn has(index: u8, bits: u32) -> Self {
        Self::Masked(index, bits, bits)
    }
}

/// A program for the kernel.
#[derive(Debug, Clone)]
pub struct Filter(BpfProgram);

impl Filter {
    /// Allows what is in `tables`; anything else ends the process.
    ///
    /// # Errors
    /// [`Error::Build`]: a table holds an argument that no call has.
    pub fn of<'a>(tables: impl IntoIterator<Item = &'a [Rule]>) -> Result<Self, Error> {
        let mut rules: BTreeMap<c_long, Vec<SeccompRule>> = BTreeMap::new();
        for (call, arguments) in tables.into_iter().flatten() {
            let before = rules.get(call).map(Vec::len);
            let added = rules_of(arguments)?;
            // No rule at all means any arguments to seccompiler.
            if before == Some(0) || (added.is_empty() && before.is_some()) {
                rules.insert(*call, Vec::new());
            } else {
                rules.entry(*call).or_default().extend(added);
            }
        }
        Self::compile(rules, SeccompAction::KillProcess, SeccompAction::Allow)
    }

    /// Has these calls fail with ENOSYS, for a C library that has another way. Of two
    /// filters the stricter answer counts.
    ///
    /// # Errors
    /// [`Error::Build`].
    pub fn missing(calls: &[c_long]) -> Result<Self, Error> {
        let rules = calls.iter().map(|&call| (call, Vec::new())).collect();
        let answer = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
        Self::compile(rules, SeccompAction::Allow, answer)
    }

    /// Filters the calling thread, and those it makes, from now on.
    ///
    /// # Errors
    /// [`Error::Install`].
    pub fn install(&self) -> Result<(), Error> {
        Ok(seccompiler::apply_filter(&self.0)?)
    }

    fn compile(
        rules: BTreeMap<c_long, Vec<SeccompRule>>,
        otherwise: SeccompAction,
        on_match: SeccompAction,
    ) -> Result<Self, Error> {
        let filter = SeccompFilter::new(rules, otherwise, on_match, ARCH.try_into()?)?;
        Ok(Self(filter.try_into()?))
    }
}

/// Returns the calls that `tables` allow, and whether each is allowed by its arguments
/// only; for those who print the tables.
#[must_use]
pub fn listed<'a>(tables: impl IntoIterator<Item = &'a [Rule]>) -> BTreeMap<c_long, bool> {
    let mut calls = BTreeMap::new();
    for (call, arguments) in tables.into_iter().flatten() {
        let by_argument = calls.entry(*call).or_insert(true);
        *by_argument &= !arguments.is_empty();
    }
    calls
}

/// The rules of a line: none if it asks nothing, several if an argument may be one of
/// several.
fn rules_of(arguments: &[Argument]) -> Result<Vec<SeccompRule>, BackendError> {
    let choices = arguments.iter().find_map(|argument| match argument {
        Argument::IsOneOf(index, values) => Some(values.iter().map(|value| (*index, *value))),
        Argument::Is(..) | Argument::Masked(..) => None,
    });
    let others: Result<Vec<SeccompCondition>, BackendError> = arguments
        .iter()
        .filter_map(|argument| match argument {
            Argument::IsOneOf(..) => None,
            Argument::Is(index, value) => Some((*index, SeccompCmpOp::Eq, *value)),
            Argument::Masked(index, mask, value) => {
                Some((*index, SeccompCmpOp::MaskedEq((*mask).into()), *value))
            }
        })
        .map(|(index, operator, value)| condition(index, operator, value))
        .collect();
    let others = others?;
    let Some(choices) = choices else {
        return match others.is_empty() {
            true => Ok(Vec::new()),
            false => Ok(vec![SeccompRule::new(others)?]),
        };
    };
    choices
        .map(|(index, value)| {
            let mut all = others.clone();
            all.push(condition(index, SeccompCmpOp::Eq, value)?);
            SeccompRule::new(all)
        })
        .collect()
}

fn condition(
    index: u8,
    operator: SeccompCmpOp,
    value: u32,
) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value.into())
}

/// Memory, locks and the end: what the C library and the standard library do in every
/// thread. Nothing executable is ever mapped.
pub const EVERY_THREAD: &[Rule] = &[
    (libc::SYS_brk, &[]),
    (libc::SYS_mmap, NOT_EXECUTABLE),
    (libc::SYS_mprotect, NOT_EXECUTABLE),
    (
        libc::SYS_mremap,
        &[Argument::Is(3, bits(libc::MREMAP_MAYMOVE))],
    ),
    (libc::SYS_munmap, &[]),
    // Memory that isn't used any more.
    (
        libc::SYS_madvise,
        &[Argument::Is(2, bits(libc::MADV_DONTNEED))],
    ),
    // Mutexes, channels and the ends of threads.
    (libc::SYS_futex, FUTEX),
    (libc::SYS_sched_yield, &[]),
    (libc::SYS_rt_sigprocmask, &[]),
    (libc::SYS_sigaltstack, &[]),
    (libc::SYS_exit, &[]),
    (libc::SYS_exit_group, &[]),
];

const NOT_EXECUTABLE: &[Argument] = &[Argument::lacks(2, bits(libc::PROT_EXEC))];

/// Waiting and waking, whatever the clock and whether private or not.
const FUTEX: &[Argument] = &[Argument::IsOneOf(
    1,
    &[
        bits(libc::FUTEX_WAIT),
        bits(libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG),
        bits(libc::FUTEX_WAKE),
        bits(libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG),
        bits(libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG),
        bits(libc::FUTEX_WAIT_BITSET | libc::FUTEX_CLOCK_REALTIME),
        bits(libc::FUTEX_WAIT_BITSET | libc::FUTEX_CLOCK_REALTIME | libc::FUTEX_PRIVATE_FLAG),
    ],
)];

/// Threads that are made after the filter, and their ends. `clone3` has to be
/// [`Filter::missing`]: its flags can't be seen.
pub const NEW_THREADS: &[Rule] = &[
    (libc::SYS_clone3, &[]),
    (
        libc::SYS_clone,
        &[Argument::has(0, bits(libc::CLONE_THREAD))],
    ),
    (libc::SYS_prctl, &[Argument::Is(0, bits(libc::PR_SET_NAME))]),
    (libc::SYS_rseq, &[]),
    (libc::SYS_set_robust_list, &[]),
    (libc::SYS_sched_getaffinity, &[]),
    (libc::SYS_gettid, &[]),
    (libc::SYS_getpid, &[]),
    (libc::SYS_rt_sigaction, &[]),
    (libc::SYS_rt_sigreturn, &[]),
    (libc::SYS_restart_syscall, &[]),
    // A process ends itself that way, and no signal reaches another.
    (libc::SYS_tgkill, &[Argument::Is(2, bits(libc::SIGABRT))]),
];

/// Flags of descriptors, and copies of them. Nobody is made to be signalled: `O_ASYNC`,
/// `F_SETOWN` and `F_SETSIG` would let a signal reach any process.
pub const DESCRIPTOR_FLAGS: &[Rule] = &[
    (
        libc::SYS_fcntl,
        &[Argument::IsOneOf(
            1,
            &[
                bits(libc::F_GETFD),
                bits(libc::F_SETFD),
                bits(libc::F_GETFL),
                bits(libc::F_DUPFD_CLOEXEC),
            ],
        )],
    ),
    (
        libc::SYS_fcntl,
        &[
            Argument::Is(1, bits(libc::F_SETFL)),
            Argument::lacks(2, bits(libc::O_ASYNC)),
        ],
    ),
];

/// A constant of the C library as a filter compares it.
#[must_use]
pub const fn bits(constant: i32) -> u32 {
    constant.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_choices_makes_a_rule_for_each() {
        assert_eq!(rules_of(&[]).unwrap().len(), 0);
        assert_eq!(rules_of(FUTEX).unwrap().len(), 7);
        let line = [Argument::Is(0, 1), Argument::IsOneOf(1, &[1, 2])];
        assert_eq!(rules_of(&line).unwrap().len(), 2);
    }

    #[test]
    fn every_table_makes_a_program() {
        Filter::of([EVERY_THREAD, NEW_THREADS, DESCRIPTOR_FLAGS]).unwrap();
        Filter::missing(&[libc::SYS_clone3]).unwrap();
    }
}
