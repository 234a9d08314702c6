//! Which system calls each kind of thread may make once the guest runs.
//!
//! Two tables, each line with its reason; everything else kills the process. The BPF
//! programs are built from them at start. Filters are per thread, so that the threads
//! the guest drives directly have the shorter table.

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use crate::sys::{TUN_SET_OFFLOAD, TUN_SET_QUEUE};

/// A filter, ready to install.
pub(crate) type Filter = BpfProgram;

/// A filter can't be built or installed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A table makes no program.
    #[error("build a system call filter")]
    Build(#[from] BackendError),
    /// The kernel doesn't take it.
    #[error("install a system call filter")]
    Install(#[from] seccompiler::Error),
}

/// A system call and what its arguments have to be.
type Rule = (libc::c_long, Only);

#[derive(Debug, Clone, Copy)]
enum Only {
    Any,
    /// The argument of that index has this value (32 bits).
    Equal(u8, u64),
    /// The argument of that index has one of these values (32 bits).
    OneOf(u8, &'static [u64]),
    /// The argument of that index has none of these bits.
    Without(u8, u64),
}

/// `KVM_RUN`: _IO(0xae, 0x80)
const KVM_RUN: u64 = 0xae80;
const EXECUTABLE: Only = Only::Without(2, libc::PROT_EXEC as u64);

/// For both kinds of thread: the allocator, locks and the end.
const EVERY_THREAD: &[Rule] = &[
    // Allocator; nothing executable is ever mapped.
    (libc::SYS_brk, Only::Any),
    (libc::SYS_mmap, EXECUTABLE),
    (libc::SYS_mprotect, EXECUTABLE),
    (libc::SYS_mremap, Only::Any),
    (libc::SYS_munmap, Only::Any),
    (libc::SYS_madvise, Only::Any),
    // Mutexes and channels.
    (libc::SYS_futex, Only::Any),
    (libc::SYS_sched_yield, Only::Any),
    // Eventfds; the log.
    (libc::SYS_read, Only::Any),
    (libc::SYS_write, Only::Any),
    // The end of a thread and of the process.
    (libc::SYS_rt_sigprocmask, Only::Any),
    (libc::SYS_sigaltstack, Only::Any),
    (libc::SYS_exit, Only::Any),
    (libc::SYS_exit_group, Only::Any),
];

/// For vCPU threads.
const VCPU: &[Rule] = &[
    // The guest; no other request to KVM, and to nothing else.
    (libc::SYS_ioctl, Only::Equal(1, KVM_RUN)),
    // A signal interrupted KVM_RUN.
    (libc::SYS_rt_sigreturn, Only::Any),
];

/// For the thread of event loop and devices.
const DEVICES: &[Rule] = &[
    (libc::SYS_epoll_wait, Only::Any),
    (libc::SYS_epoll_pwait, Only::Any),
    (libc::SYS_epoll_ctl, Only::Any),
    // The owner and the file server; vsock hands out sockets it made.
    (libc::SYS_recvmsg, Only::Any),
    (libc::SYS_sendmsg, Only::Any),
    (libc::SYS_recvfrom, Only::Any),
    (libc::SYS_sendto, Only::Any),
    (libc::SYS_socketpair, Only::Equal(0, libc::AF_UNIX as u64)),
    (libc::SYS_shutdown, Only::Any),
    (libc::SYS_timerfd_settime, Only::Any),
    (libc::SYS_clock_gettime, Only::Any),
    (libc::SYS_readv, Only::Any),
    (libc::SYS_writev, Only::Any),
    (libc::SYS_fcntl, Only::Any),
    // A network interface that is plugged has one.
    (libc::SYS_eventfd2, Only::Any),
    // Ends of connections, disks that are refused.
    (libc::SYS_close, Only::Any),
    // Disks.
    (libc::SYS_lseek, Only::Any),
    (libc::SYS_pread64, Only::Any),
    (libc::SYS_pwrite64, Only::Any),
    (libc::SYS_fdatasync, Only::Any),
    // The balloon.
    (libc::SYS_fallocate, Only::Any),
    // The entropy source; hash maps.
    (libc::SYS_getrandom, Only::Any),
];

/// Non-blocking sockets; offloads and queues of network interfaces.
const DEVICE_REQUESTS: &[u64] = &[libc::FIONBIO, TUN_SET_OFFLOAD, TUN_SET_QUEUE];

/// The same where the host's kernel may serve network interfaces (linux/vhost.h).
const DEVICE_REQUESTS_WITH_VHOST: &[u64] = &[
    libc::FIONBIO,
    TUN_SET_OFFLOAD,
    TUN_SET_QUEUE,
    // VHOST_GET_FEATURES, VHOST_SET_FEATURES, VHOST_SET_OWNER, VHOST_SET_MEM_TABLE
    0x8008_af00,
    0x4008_af00,
    0x0000_af01,
    0x4008_af03,
    // VHOST_SET_VRING_NUM, _ADDR, _BASE, VHOST_GET_VRING_BASE
    0x4008_af10,
    0x4028_af11,
    0x4008_af12,
    0xc008_af12,
    // VHOST_SET_VRING_KICK, _CALL, VHOST_NET_SET_BACKEND
    0x4008_af20,
    0x4008_af21,
    0x4008_af30,
];

/// The filter of vCPU threads.
pub(crate) fn vcpu_filter() -> Result<Filter, Error> {
    build(VCPU, &[])
}

/// The filter of the thread that has the devices; with `vhost_net` the host's kernel
/// may serve network interfaces.
pub(crate) fn device_filter(vhost_net: bool) -> Result<Filter, Error> {
    let requests = if vhost_net {
        DEVICE_REQUESTS_WITH_VHOST
    } else {
        DEVICE_REQUESTS
    };
    build(DEVICES, &[(libc::SYS_ioctl, Only::OneOf(1, requests))])
}

/// Filters the calling thread from now on.
pub(crate) fn install(filter: &Filter) -> Result<(), Error> {
    Ok(seccompiler::apply_filter(filter)?)
}

fn build(table: &[Rule], more: &[Rule]) -> Result<Filter, Error> {
    let rules = EVERY_THREAD.iter().chain(table).chain(more);
    let rules: Result<_, BackendError> = rules
        .map(|(number, only)| Ok((*number, conditions(*only)?)))
        .collect();
    let filter = SeccompFilter::new(
        rules?,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        TargetArch::x86_64,
    )?;
    Ok(filter.try_into()?)
}

/// No rule at all means "any arguments" to seccompiler.
fn conditions(only: Only) -> Result<Vec<SeccompRule>, BackendError> {
    match only {
        Only::Any => Ok(Vec::new()),
        Only::Equal(argument, value) => Ok(vec![rule(argument, SeccompCmpOp::Eq, value)?]),
        Only::OneOf(argument, values) => values
            .iter()
            .map(|value| rule(argument, SeccompCmpOp::Eq, *value))
            .collect(),
        Only::Without(argument, bits) => Ok(vec![rule(argument, SeccompCmpOp::MaskedEq(bits), 0)?]),
    }
}

fn rule(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, BackendError> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?;
    SeccompRule::new(vec![condition])
}

#[cfg(test)]
mod tests {
    use vhost::vhost_kern::vhost_binding::*;

    use super::*;

    #[test]
    fn the_requests_of_vhost_have_the_numbers_that_are_allowed() {
        let numbers = [
            VHOST_GET_FEATURES(),
            VHOST_SET_FEATURES(),
            VHOST_SET_OWNER(),
            VHOST_SET_MEM_TABLE(),
            VHOST_SET_VRING_NUM(),
            VHOST_SET_VRING_ADDR(),
            VHOST_SET_VRING_BASE(),
            VHOST_GET_VRING_BASE(),
            VHOST_SET_VRING_KICK(),
            VHOST_SET_VRING_CALL(),
            VHOST_NET_SET_BACKEND(),
        ];
        let more = DEVICE_REQUESTS_WITH_VHOST.strip_prefix(DEVICE_REQUESTS);
        assert_eq!(more, Some(&numbers[..]));
    }
}
