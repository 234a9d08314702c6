//! Processes: clone3 without exec, signals by number, immediate exit.
//!
//! Owns nothing else about processes. Correct only in a program of one thread,
//! which the agent is.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, BorrowedFd},
    path::Path,
};

use nix::unistd::Pid;

/// Forks with `flags` (`CLONE_*`), into `cgroup` if given, so that nothing ever
/// runs outside of it. Returns `None` in the child.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn clone_process(
    flags: libc::c_int,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Option<Pid>> {
    let sibling = flags & libc::CLONE_PARENT != 0;
    let mut flags = u64::from(flags.unsigned_abs());
    let mut target = 0;
    if let Some(cgroup) = cgroup {
        flags |= CLONE_INTO_CGROUP;
        target = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    let arguments = libc::clone_args {
        flags,
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        // A sibling signals its parent as its creator would.
        exit_signal: if sibling {
            0
        } else {
            u64::from(libc::SIGCHLD.unsigned_abs())
        },
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: target,
    };
    // SAFETY: the arguments outlive the call and ask for a copied address space
    // (no CLONE_VM); the process has one thread, so no lock is held elsewhere.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<libc::clone_args>(),
        )
    };
    match i32::try_from(result) {
        Ok(0) => Ok(None),
        Ok(pid) if pid > 0 => Ok(Some(Pid::from_raw(pid))),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends the process without running destructors, which belong to the parent.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` takes any number and doesn't return.
    unsafe { libc::_exit(status) }
}

/// Whether this process may execute the file, with the capabilities it has: access(2)
/// and libraries' wrappers of it check those of the real user alone.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn may_execute(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_encoded_bytes())?;
    // SAFETY: the path outlives the call, and nothing is written.
    let result = unsafe {
        libc::syscall(
            libc::SYS_faccessat2,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::X_OK,
            libc::AT_EACCESS,
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// Sends signal `number` (real-time ones too) to the process behind `pidfd`.
///
/// # Errors
/// `ESRCH` once it has been reaped, `EINVAL` for a number that isn't a signal.
pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open; no siginfo is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            number,
            std::ptr::null::<libc::siginfo_t>(),
            0_u32,
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// Gives every signal its default action and unblocks all: Rust ignores SIGPIPE,
/// and a program must not inherit that.
pub(crate) fn restore_default_signals() {
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL is no function of ours; a number that can't be changed
        // is refused by an error that doesn't matter.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    nix::sys::signal::SigSet::empty()
        .thread_set_mask()
        .unwrap_or_default();
}

/// From linux/sched.h: above the 32 bits that the libc crate's flags have.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
