//! What the server may still ask of the kernel once it serves: file operations
//! relative to descriptors it holds, its queues, its threads. No program can be
//! started, no process made, no socket opened.

use caisson_jail::syscalls::{
    Argument, DESCRIPTOR_FLAGS, EVERY_THREAD, Error, Filter, NEW_THREADS, Rule, bits,
};

/// Limits this thread and those it makes from now on. Anything else ends the
/// whole process.
pub(super) fn limit() -> Result<(), Error> {
    // This one makes the C library fall back from clone3, whose flags a filter cannot
    // see, to clone.
    Filter::missing(&[libc::SYS_clone3])?.install()?;
    Filter::of(tables().iter().map(Vec::as_slice))?.install()
}

/// Returns what `caisson-fs` may call.
#[must_use]
pub fn tables() -> Vec<Vec<Rule>> {
    let others = ALLOWED.iter().map(|&call| (call, &[][..])).collect();
    let tables = [EVERY_THREAD, NEW_THREADS, DESCRIPTOR_FLAGS, WITH_ARGUMENTS];
    let mut tables: Vec<Vec<Rule>> = tables.map(<[Rule]>::to_vec).into();
    tables.push(others);
    tables
}

/// Beside those that are allowed whatever their arguments.
const WITH_ARGUMENTS: &[Rule] = &[
    // What libcap-ng asks when the file system acts as a user of the guest: questions
    // only, the securebits forbid to raise anything.
    (
        libc::SYS_prctl,
        &[Argument::IsOneOf(
            0,
            &[
                bits(libc::PR_GET_SECUREBITS),
                bits(libc::PR_CAPBSET_READ),
                bits(libc::PR_CAP_AMBIENT),
            ],
        )],
    ),
    // The front end.
    (
        libc::SYS_accept4,
        &[Argument::Is(3, bits(libc::SOCK_CLOEXEC))],
    ),
];

const ALLOWED: &[i64] = &[
    // Files by descriptor.
    libc::SYS_close,
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_fallocate,
    libc::SYS_fchdir,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_fdatasync,
    libc::SYS_fgetxattr,
    libc::SYS_flistxattr,
    libc::SYS_flock,
    libc::SYS_fremovexattr,
    libc::SYS_fsetxattr,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_linkat,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_statx,
    libc::SYS_symlinkat,
    libc::SYS_syncfs,
    libc::SYS_umask,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_write,
    libc::SYS_writev,
    // Attributes of files held by reference, as names in /proc/self/fd.
    libc::SYS_getxattr,
    libc::SYS_listxattr,
    libc::SYS_removexattr,
    libc::SYS_setxattr,
    // Acting as the user of a request, for ownership of new files.
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_setgroups,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    // The socket and the queues.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd2,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    // Time and chance.
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
];
