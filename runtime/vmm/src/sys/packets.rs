//! Whole packets between a descriptor and guest memory, and the one request that a
//! network device makes of its tap.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;
use vm_memory::VolatileSlice;

/// `TUNSETOFFLOAD`: _IOW('T', 208, unsigned int)
pub(crate) const TUN_SET_OFFLOAD: u64 = 0x4004_54d0;
/// What one call takes at most (`UIO_MAXIOV`).
pub(crate) const MAX_SLICES: usize = 1024;

/// Reads one packet into `room`, from its start; returns its length. What doesn't fit
/// is lost.
pub(crate) fn read_packet(from: BorrowedFd<'_>, room: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let vectors = vectors(room);
    // SAFETY: each vector is memory that is mapped as long as `room` lives, and guest
    // memory may change at any time anyhow: this process reads it volatile only.
    let length = unsafe { libc::readv(from.as_raw_fd(), vectors.as_ptr(), count(&vectors)) };
    outcome(length)
}

/// Writes `packet` as one; returns the length that was taken.
pub(crate) fn write_packet(to: BorrowedFd<'_>, packet: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let vectors = vectors(packet);
    // SAFETY: each vector is memory that is mapped as long as `packet` lives; that the
    // guest may change it under way is the kernel's to bear, as for any shared mapping.
    let length = unsafe { libc::writev(to.as_raw_fd(), vectors.as_ptr(), count(&vectors)) };
    outcome(length)
}

/// Says which offloads the packets read from the tap may use (`TUN_F_*`).
pub(crate) fn set_tap_offloads(tap: BorrowedFd<'_>, flags: u32) -> io::Result<()> {
    // SAFETY: the argument of this request is a number. Another kind of descriptor
    // refuses it.
    let answer =
        unsafe { libc::ioctl(tap.as_raw_fd(), TUN_SET_OFFLOAD, libc::c_ulong::from(flags)) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn vectors(slices: &[VolatileSlice<'_>]) -> Vec<libc::iovec> {
    let vector = |slice: &VolatileSlice<'_>| libc::iovec {
        iov_base: slice.ptr_guard_mut().as_ptr().cast(),
        iov_len: slice.len(),
    };
    slices.iter().take(MAX_SLICES).map(vector).collect()
}

fn count(vectors: &[libc::iovec]) -> libc::c_int {
    libc::c_int::try_from(vectors.len()).unwrap_or(0)
}

fn outcome(length: isize) -> io::Result<usize> {
    usize::try_from(length).map_err(|_| io::Error::last_os_error())
}
