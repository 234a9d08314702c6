//! What `caisson-vsock` may still ask of the kernel once a front end can reach it:
//! its sockets, its queues, its threads. No file can be opened, no program started,
//! no process made.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::MaskedEq;
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

/// Limits this thread and those it makes from now on. Anything else ends the whole
/// process.
pub(super) fn limit() -> Result<(), Error> {
    // Of two filters the stricter answer counts.
    let missing = REFUSED.iter().map(|&call| (call, vec![])).collect();
    let answer = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    apply_filter(&compile(missing, SeccompAction::Allow, answer)?)?;
    let list = allow_list()?;
    apply_filter(&compile(
        list,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
    )?)
}

fn allow_list() -> Result<BTreeMap<i64, Vec<SeccompRule>>, Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED
        .iter()
        .chain(REFUSED)
        .map(|&call| (call, vec![]))
        .collect();
    let bits = i32::unsigned_abs;
    let thread = u64::from(bits(libc::CLONE_THREAD));
    rules.insert(libc::SYS_clone, vec![masked(0, Qword, thread, thread)?]);
    let executable = u64::from(bits(libc::PROT_EXEC));
    rules.insert(libc::SYS_mmap, vec![masked(2, Qword, executable, 0)?]);
    rules.insert(libc::SYS_mprotect, vec![masked(2, Qword, executable, 0)?]);
    let all = u64::from(u32::MAX);
    for (call, argument, value) in ONLY {
        rules.insert(*call, vec![masked(*argument, Dword, all, *value)?]);
    }
    Ok(rules)
}

/// Argument number `index`, under `mask`, is `value`.
fn masked(index: u8, len: SeccompCmpArgLen, mask: u64, value: u64) -> Result<SeccompRule, Error> {
    let condition = SeccompCondition::new(index, len, MaskedEq(mask), value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    on_match: SeccompAction,
) -> Result<BpfProgram, Error> {
    Ok(SeccompFilter::new(rules, otherwise, on_match, TargetArch::x86_64)?.try_into()?)
}

/// Calls that are allowed with one value of one argument.
const ONLY: &[(i64, u8, u64)] = &[
    // Streams for the owner; nothing that reaches the network.
    (libc::SYS_socketpair, 0, 1),
    // Non-blocking sockets.
    (libc::SYS_ioctl, 1, 0x5421),
    // Names of threads.
    (libc::SYS_prctl, 0, 15),
];

/// What the C library tries and can do without.
const REFUSED: &[i64] = &[
    // Its flags can't be seen by a filter; clone is used instead.
    libc::SYS_clone3,
    // Asks for the host's way of overcommitting when it gives memory back.
    libc::SYS_openat,
];

const ALLOWED: &[i64] = &[
    // Streams, the channel, the front end.
    libc::SYS_accept4,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    libc::SYS_write,
    libc::SYS_writev,
    // Readiness and time.
    libc::SYS_clock_gettime,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    // The guest's memory: the length of its file, by which it is mapped.
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_statx,
    // Own memory, threads and the end.
    libc::SYS_brk,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
];
