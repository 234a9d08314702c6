//! What `caisson-vsock` may still ask of the kernel once a front end can reach it:
//! its sockets, its queues, its threads. No file can be opened, no program started,
//! no process made.

use caisson_jail::syscalls::{
    Argument, DESCRIPTOR_FLAGS, EVERY_THREAD, Error, Filter, NEW_THREADS, Rule, bits,
};
use nix::libc;

use crate::seccomp::STREAM_PAIR;

/// Limits this thread and those it makes from now on. Anything else ends the whole
/// process.
pub(super) fn limit() -> Result<(), Error> {
    Filter::missing(MISSING)?.install()?;
    Filter::of(TABLES.iter().copied())?.install()
}

/// What `caisson-vsock` may call.
pub const TABLES: &[&[Rule]] = &[EVERY_THREAD, NEW_THREADS, DESCRIPTOR_FLAGS, ALLOWED];

/// What the C library tries and can do without.
const MISSING: &[libc::c_long] = &[
    // Its flags can't be seen by a filter; clone is used instead.
    libc::SYS_clone3,
    // Asks for the host's way of overcommitting when it gives memory back.
    libc::SYS_openat,
];

const ALLOWED: &[Rule] = &[
    // Missing, see there; the stricter answer counts.
    (libc::SYS_openat, &[]),
    // Streams, the channel, the front end.
    (
        libc::SYS_accept4,
        &[Argument::Is(3, bits(libc::SOCK_CLOEXEC))],
    ),
    (libc::SYS_close, &[]),
    (libc::SYS_ioctl, &[Argument::Is(1, 0x5421)]), // FIONBIO
    (libc::SYS_poll, &[]),
    (libc::SYS_ppoll, &[]),
    (libc::SYS_read, &[]),
    (libc::SYS_recvfrom, &[]),
    (libc::SYS_recvmsg, &[]),
    (libc::SYS_sendmsg, &[]),
    (libc::SYS_sendto, &[]),
    (libc::SYS_shutdown, &[]),
    (libc::SYS_socketpair, STREAM_PAIR),
    (libc::SYS_write, &[]),
    (libc::SYS_writev, &[]),
    // Readiness and time.
    (libc::SYS_clock_gettime, &[]),
    (libc::SYS_epoll_create1, &[]),
    (libc::SYS_epoll_ctl, &[]),
    (libc::SYS_epoll_pwait, &[]),
    (libc::SYS_epoll_wait, &[]),
    (libc::SYS_eventfd2, &[]),
    (
        libc::SYS_timerfd_create,
        &[Argument::Is(0, bits(libc::CLOCK_MONOTONIC))],
    ),
    (libc::SYS_timerfd_settime, &[Argument::Is(1, 0)]),
    // The guest's memory: the length of its file, by which it is mapped.
    (libc::SYS_fstat, &[]),
    (libc::SYS_lseek, &[]),
    (libc::SYS_statx, &[]),
    (libc::SYS_getrandom, &[]),
];
