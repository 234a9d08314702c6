//! `mount_setattr(2)`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `MOUNT_ATTR_NOSYMFOLLOW` of `linux/mount.h`.
pub(crate) const MOUNT_ATTR_NOSYMFOLLOW: u64 = 0x0020_0000;

/// What to change; attributes that are not set stay as they are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MountAttributes<'a> {
    /// `MOUNT_ATTR_*` bits to set.
    pub(crate) set: u64,
    /// `MOUNT_ATTR_*` bits to take away.
    pub(crate) clear: u64,
    /// `MS_PRIVATE` or `MS_SLAVE`; 0 leaves it.
    pub(crate) propagation: u64,
    /// The user namespace whose maps files are seen through.
    pub(crate) ids_of: Option<BorrowedFd<'a>>,
}

/// How far a change reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// This mount.
    One,
    /// This mount and every mount below it, or none of them.
    All,
}

/// Changes the attributes of the mount behind a descriptor.
pub(crate) fn mount_setattr(
    mount: BorrowedFd<'_>,
    depth: Depth,
    attributes: MountAttributes<'_>,
) -> io::Result<()> {
    let recursive = if depth == Depth::All {
        libc::AT_RECURSIVE
    } else {
        0
    };
    let flags = libc::AT_EMPTY_PATH | recursive;
    let mapped = attributes.ids_of.map_or(0, |_| libc::MOUNT_ATTR_IDMAP);
    let attributes = libc::mount_attr {
        attr_set: attributes.set | mapped,
        attr_clr: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: attributes
            .ids_of
            .map_or(0, |namespace| namespace.as_raw_fd().unsigned_abs().into()),
    };
    // SAFETY: the path is a C string of static life, the structure lives until
    // the call returns and its true size is given; the kernel only reads both.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
