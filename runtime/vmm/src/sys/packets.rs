//! Whole packets between a tap and guest memory, and the requests that a network
//! device makes of its tap.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryMmap, Permissions};

/// `TUNSETOFFLOAD`: _IOW('T', 208, unsigned int)
pub(crate) const TUN_SET_OFFLOAD: u32 = 0x4004_54d0;
/// `TUNSETQUEUE`: _IOW('T', 217, int)
pub(crate) const TUN_SET_QUEUE: u32 = 0x4004_54d9;
/// What one call takes at most (`UIO_MAXIOV`).
pub(crate) const MAX_PIECES: usize = 1024;

/// Pieces of guest memory in the form that system calls take, kept from packet to
/// packet.
///
/// The memory stays mapped as long as this lives.
#[derive(Debug)]
pub(crate) struct Pieces {
    mem: GuestMemoryMmap,
    vectors: Vec<libc::iovec>,
    /// How many at the front are no longer meant.
    skipped: usize,
}

// SAFETY: what the vectors point to belongs to `mem`, which may move between threads
// itself; nothing here depends on the thread.
unsafe impl Send for Pieces {}

impl Pieces {
    /// None yet.
    pub(crate) fn new(mem: GuestMemoryMmap) -> Self {
        Self {
            mem,
            vectors: Vec::new(),
            skipped: 0,
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.vectors.len() - self.skipped
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.vectors.clear();
        self.skipped = 0;
    }

    /// Adds the bytes from `address` on to the end; false, and maybe some of them
    /// added, if they are not in guest memory.
    pub(crate) fn push(&mut self, address: GuestAddress, len: usize, access: Permissions) -> bool {
        // In the usual case there is one part.
        let Ok(parts) = GuestMemory::get_slices(&self.mem, address, len, access) else {
            return false;
        };
        for part in parts {
            let Ok(part) = part else {
                return false;
            };
            self.vectors.push(libc::iovec {
                iov_base: part.ptr_guard_mut().as_ptr().cast(),
                iov_len: part.len(),
            });
        }
        true
    }

    /// Takes the first `count` away.
    pub(crate) fn skip(&mut self, count: usize) {
        self.skipped = self.vectors.len().min(self.skipped + count);
        // Moved to the front now and then, not each time.
        if self.skipped >= MAX_PIECES || self.skipped == self.vectors.len() {
            self.vectors.drain(..self.skipped);
            self.skipped = 0;
        }
    }

    /// Reads one packet into the first `most` of them; returns its length. What doesn't
    /// fit is lost.
    pub(crate) fn read_packet(&self, from: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        let vectors = self.current(most);
        // SAFETY: each vector is memory of `mem`, which is mapped as long as it lives,
        // and guest memory may change at any time anyhow: this process reads it
        // volatile only.
        let length = unsafe { libc::readv(from.as_raw_fd(), vectors.as_ptr(), length(vectors)) };
        outcome(length)
    }

    /// Writes all of them as one packet; returns the length that was taken.
    pub(crate) fn write_packet(&self, to: BorrowedFd<'_>) -> io::Result<usize> {
        let vectors = self.current(MAX_PIECES);
        // SAFETY: each vector is memory of `mem`, which is mapped as long as it lives;
        // that the guest may change it under way is the kernel's to bear, as for any
        // shared mapping.
        let length = unsafe { libc::writev(to.as_raw_fd(), vectors.as_ptr(), length(vectors)) };
        outcome(length)
    }

    fn current(&self, most: usize) -> &[libc::iovec] {
        let rest = self.vectors.get(self.skipped..).unwrap_or_default();
        rest.get(..most.min(MAX_PIECES)).unwrap_or(rest)
    }
}

/// Sets which offloads the packets read from the tap may use (`TUN_F_*`).
pub(crate) fn set_tap_offloads(tap: BorrowedFd<'_>, flags: u32) -> io::Result<()> {
    // SAFETY: the argument of this request is a number. Another kind of descriptor
    // refuses it.
    let answer = unsafe {
        libc::ioctl(
            tap.as_raw_fd(),
            TUN_SET_OFFLOAD.into(),
            libc::c_ulong::from(flags),
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Has a tap with several queues use the one behind `queue`, or leave it alone.
pub(crate) fn use_tap_queue(queue: BorrowedFd<'_>, used: bool) -> io::Result<()> {
    let flag = if used {
        libc::IFF_ATTACH_QUEUE
    } else {
        libc::IFF_DETACH_QUEUE
    };
    let request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            // All flags are in the lower 15 bits.
            ifru_flags: libc::c_short::try_from(flag).unwrap_or_default(),
        },
    };
    // SAFETY: the kernel reads one ifreq, which lives until it answers.
    let answer =
        unsafe { libc::ioctl(queue.as_raw_fd(), TUN_SET_QUEUE.into(), &raw const request) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn length(vectors: &[libc::iovec]) -> libc::c_int {
    libc::c_int::try_from(vectors.len()).unwrap_or(0)
}

fn outcome(length: isize) -> io::Result<usize> {
    usize::try_from(length).map_err(|_| io::Error::last_os_error())
}
