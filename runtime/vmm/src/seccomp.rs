//! Which system calls each kind of thread may make once the guest runs, and the process
//! from the first image on.
//!
//! Tables, each line with its reason; everything else kills the process. The BPF
//! programs are built from them at start. Filters are per thread, so that the threads
//! the guest drives directly have the shorter table.

use caisson_jail::syscalls::{Argument, DESCRIPTOR_FLAGS, EVERY_THREAD, NEW_THREADS, Rule, bits};
pub(crate) use caisson_jail::syscalls::{Error, Filter};
use nix::libc;

use crate::gate;
use crate::sys::{TUN_SET_OFFLOAD, TUN_SET_QUEUE};

/// `KVM_RUN`: _IO(0xae, 0x80)
const KVM_RUN: u32 = 0xae80;
/// `KVM_KVMCLOCK_CTRL`: _IO(0xae, 0xad)
const KVM_KVMCLOCK_CTRL: u32 = 0xaead;
/// `FIONBIO` of asm-generic/ioctls.h.
const FIONBIO: u32 = 0x5421;

/// For both kinds of thread: eventfds; the log.
const WORDS: &[Rule] = &[(libc::SYS_read, &[]), (libc::SYS_write, &[])];

/// For the time before the guest runs, in which images are parsed and the machine is
/// made; all of the other tables is allowed too, as filters only ever narrow.
const SET_UP: &[Rule] = &[
    // KVM, whatever it is asked (_IO(0xae, ...)), and vhost-net.
    (libc::SYS_ioctl, &[Argument::Masked(1, 0xff00, 0xae00)]),
    // The console's pipe becomes nonblocking; devices and the loop make these.
    (libc::SYS_epoll_create1, &[]),
    (libc::SYS_eventfd2, &[]),
    (
        libc::SYS_timerfd_create,
        &[Argument::Is(0, bits(libc::CLOCK_MONOTONIC))],
    ),
    // Images, from their files to the memory file.
    (libc::SYS_fstat, &[]),
    (libc::SYS_statx, &[]),
    (libc::SYS_sendfile, &[]),
    // Huge pages under them.
    (
        libc::SYS_madvise,
        &[Argument::Is(2, bits(libc::MADV_HUGEPAGE))],
    ),
    // The filters to come.
    (libc::SYS_seccomp, &[]),
    (
        libc::SYS_prctl,
        &[Argument::Is(0, bits(libc::PR_SET_NO_NEW_PRIVS))],
    ),
];

/// Streams of the vsock device for the owner; nothing that reaches the network.
pub(crate) const STREAM_PAIR: &[Argument] = &[
    Argument::Is(0, bits(libc::AF_UNIX)),
    Argument::Is(1, bits(libc::SOCK_STREAM | libc::SOCK_CLOEXEC)),
    Argument::Is(2, 0),
];

/// For vCPU threads.
const VCPU: &[Rule] = &[
    // The guest; no other request to KVM, and to nothing else.
    (libc::SYS_ioctl, &[Argument::Is(1, KVM_RUN)]),
    (libc::SYS_ioctl, &[Argument::IsOneOf(1, PAUSED_REQUESTS)]),
    // A signal interrupted KVM_RUN.
    (libc::SYS_rt_sigreturn, &[]),
];

/// What a vCPU thread asks of KVM while it is parked: only that the guest's kernel does
/// not take the pause for a hang. What saving and restoring a vCPU will need belongs here.
const PAUSED_REQUESTS: &[u32] = &[KVM_KVMCLOCK_CTRL];

/// For the thread of event loop and devices.
const DEVICES: &[Rule] = &[
    (libc::SYS_epoll_wait, &[]),
    (libc::SYS_epoll_pwait, &[]),
    (libc::SYS_epoll_ctl, &[]),
    // The owner and the file server; vsock hands out sockets it made.
    (libc::SYS_recvmsg, &[]),
    (libc::SYS_sendmsg, &[]),
    (libc::SYS_recvfrom, &[]),
    (libc::SYS_sendto, &[]),
    (libc::SYS_socketpair, STREAM_PAIR),
    (libc::SYS_shutdown, &[]),
    (libc::SYS_timerfd_settime, &[Argument::Is(1, 0)]),
    (libc::SYS_clock_gettime, &[]),
    (libc::SYS_readv, &[]),
    (libc::SYS_writev, &[]),
    // Ends of connections, disks that are refused.
    (libc::SYS_close, &[]),
    // Disks.
    (libc::SYS_lseek, &[]),
    (libc::SYS_pread64, &[]),
    (libc::SYS_pwrite64, &[]),
    (libc::SYS_fdatasync, &[]),
    // The balloon: holes, and no file becomes longer.
    (
        libc::SYS_fallocate,
        &[Argument::Is(
            1,
            bits(libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE),
        )],
    ),
    // Kicks for vCPU threads. Another process that could get this signal is not in sight:
    // the process is alone in its pid namespace, and with its user if root started it.
    (
        libc::SYS_tgkill,
        &[Argument::Is(2, bits(gate::KICK_SIGNAL))],
    ),
    (libc::SYS_getpid, &[]),
    // The entropy source; hash maps.
    (libc::SYS_getrandom, &[]),
];

/// Non-blocking sockets; offloads and queues of network interfaces.
const DEVICE_REQUESTS: &[Rule] = &[(
    libc::SYS_ioctl,
    &[Argument::IsOneOf(
        1,
        &[FIONBIO, TUN_SET_OFFLOAD, TUN_SET_QUEUE],
    )],
)];

/// Where the host's kernel may serve network interfaces (linux/vhost.h).
const VHOST_NUMBERS: &[u32] = &[
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

const VHOST_REQUESTS: &[Rule] = &[(libc::SYS_ioctl, &[Argument::IsOneOf(1, VHOST_NUMBERS)])];

/// Filters this thread, and those it makes, from the first image on; the filters below
/// narrow it.
pub(crate) fn begin() -> Result<(), Error> {
    // Its flags can't be seen; clone is used instead.
    Filter::missing(&[libc::SYS_clone3])?.install()?;
    Filter::of(BEFORE_THE_GUEST.iter().copied())?.install()
}

const BEFORE_THE_GUEST: &[&[Rule]] = &[
    EVERY_THREAD,
    NEW_THREADS,
    DESCRIPTOR_FLAGS,
    WORDS,
    VCPU,
    DEVICES,
    DEVICE_REQUESTS,
    VHOST_REQUESTS,
    SET_UP,
];
const VCPU_THREADS: &[&[Rule]] = &[EVERY_THREAD, WORDS, VCPU];
const DEVICE_THREAD: &[&[Rule]] = &[
    EVERY_THREAD,
    WORDS,
    DESCRIPTOR_FLAGS,
    DEVICES,
    DEVICE_REQUESTS,
];

/// Returns what `caisson-vmm` may call: which threads, and their tables. With `vhost_net`
/// the device thread also makes vhost's requests by ioctl(2).
#[must_use]
pub const fn tables() -> [(&'static str, &'static [&'static [Rule]]); 3] {
    [
        ("caisson-vmm before the guest runs", BEFORE_THE_GUEST),
        ("caisson-vmm, each vCPU thread", VCPU_THREADS),
        ("caisson-vmm, the thread of its devices", DEVICE_THREAD),
    ]
}

/// The filter of vCPU threads.
pub(crate) fn vcpu_filter() -> Result<Filter, Error> {
    Filter::of(VCPU_THREADS.iter().copied())
}

/// The filter of the thread that has the devices; with `vhost_net` the host's kernel
/// may serve network interfaces.
pub(crate) fn device_filter(vhost_net: bool) -> Result<Filter, Error> {
    let vhost = if vhost_net { VHOST_REQUESTS } else { &[] };
    Filter::of(DEVICE_THREAD.iter().copied().chain([vhost]))
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
        let allowed: Vec<u64> = VHOST_NUMBERS.iter().map(|&number| number.into()).collect();
        assert_eq!(allowed, numbers);
    }
}
