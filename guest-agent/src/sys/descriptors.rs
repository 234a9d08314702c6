//! Descriptors: on the event loop, and closed in a forked child.
//!
//! Owns none.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use tokio::io::unix::AsyncFd;

/// Puts a descriptor on the event loop.
///
/// # Errors
/// The kernel's, as for a regular file.
pub(crate) fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor is open, and stays the same one until dropped.
    unsafe { AsyncFd::register(descriptor) }.map_err(Into::into)
}

/// `SO_VM_SOCKETS_CONNECT_TIMEOUT_OLD` of linux/vm_sockets.h, with a `timeval`.
const CONNECT_TIMEOUT: i32 = 6;

/// How long connecting this vsock socket may take; without it the kernel gives up
/// after two seconds.
///
/// # Errors
/// The kernel's, as for a socket of another family.
pub(crate) fn set_vsock_connect_timeout(socket: BorrowedFd<'_>, seconds: i64) -> io::Result<()> {
    let timeout = libc::timeval {
        tv_sec: seconds,
        tv_usec: 0,
    };
    #[expect(clippy::cast_possible_truncation, reason = "16 bytes")]
    let len = size_of::<libc::timeval>() as libc::socklen_t;
    let (family, option) = (libc::AF_VSOCK, CONNECT_TIMEOUT);
    // SAFETY: the kernel reads `len` bytes of a value that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            family,
            option,
            (&raw const timeout).cast(),
            len,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Closes every descriptor from 3 up except `keep`. A copy of another process's
/// pipe kept here would delay that process's end of file.
pub(crate) fn close_all_except(keep: &[RawFd]) {
    let mut keep: Vec<u32> = keep.iter().filter_map(|&fd| fd.try_into().ok()).collect();
    keep.sort_unstable();
    let mut first = 3;
    for kept in keep.into_iter().filter(|&fd| fd >= 3) {
        if first < kept {
            close_range(first, kept - 1);
        }
        first = kept + 1;
    }
    close_range(first, u32::MAX);
}

fn close_range(first: u32, last: u32) {
    // SAFETY: called in a forked child, in which nothing uses the descriptors
    // that are closed here: the runtime that owns them never runs again.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0_u32) };
}
