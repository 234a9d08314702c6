//! The one request to /dev/vhost-net that the crate `vhost` makes only of descriptors
//! it has opened itself.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

mod requests {
    use nix::libc::c_uint;

    /// `struct vhost_vring_file` of linux/vhost_types.h.
    #[repr(C)]
    pub(super) struct RingFile {
        pub(super) index: c_uint,
        pub(super) descriptor: std::os::fd::RawFd,
    }

    nix::ioctl_write_ptr!(set_backend, 0xaf, 0x30, RingFile);
}

/// Has the kernel move packets between `tap` and ring number `index`, or stop it.
pub(crate) fn set_vhost_backend(
    vhost: BorrowedFd<'_>,
    index: u32,
    tap: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    const NONE: RawFd = -1;
    let file = requests::RingFile {
        index,
        descriptor: tap.map_or(NONE, |tap| tap.as_raw_fd()),
    };
    // SAFETY: the kernel reads one RingFile, which lives until it answers, and takes a
    // reference to the tap of its own.
    unsafe { requests::set_backend(vhost.as_raw_fd(), &raw const file) }?;
    Ok(())
}
