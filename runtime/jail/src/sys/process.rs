//! Calls that change what the whole process holds.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Closes the descriptors from `first` to `last`, both included.
pub(crate) fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: takes numbers only. No owned descriptor of this crate is in the
    // range; those of the caller are its word in `Jail::descriptors`.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Empties the environment.
pub(crate) fn clear_environment() -> io::Result<()> {
    // SAFETY: the process has one thread (`require_one_thread` ran before),
    // so nobody reads the environment meanwhile.
    let result = unsafe { libc::clearenv() };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes an inherited descriptor this process's own, closed on exec. The caller
/// sees to it that none is adopted twice.
pub(crate) fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only; fails if the descriptor is not open.
    let result = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, as the call above showed, and inherited: no part of
    // this process owns it yet.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
