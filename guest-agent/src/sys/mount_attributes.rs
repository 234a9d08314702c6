//! `mount_setattr(2)`: flags of one mount or of a whole tree, and propagation.
//!
//! Owns no meaning of options; see the container's mount options.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// Bits as in linux/mount.h.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MountAttributes {
    /// `MOUNT_ATTR_*` to set.
    pub(crate) set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub(crate) clear: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE` or 0.
    pub(crate) propagation: u64,
}

/// Applies `attributes` to the mount behind `tree`, and to those below it if
/// `recursive`.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn set_mount_attributes(
    tree: BorrowedFd<'_>,
    attributes: MountAttributes,
    recursive: bool,
) -> io::Result<()> {
    let request = libc::mount_attr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: 0,
    };
    let below = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the request outlives the call, its size is passed, the path is an
    // empty string because the descriptor names the mount.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | below,
            &raw const request,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}
