//! Mounts without a place, for a helper to serve: the owner makes them, passes
//! the descriptor, and the helper attaches them in its own mount namespace. No
//! mount ever shows in the owner's namespace, and none outlives the descriptors.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::error::{Error, Step};
use crate::sys::{self, Depth, MountAttributes};

pub use crate::root::{Kind, require_read_only};

/// How a tree is cut out of the owner's mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tree {
    /// The mount of the path alone; mounts below it look like empty folders.
    One,
    /// The mount with everything mounted below it.
    Recursive,
}

/// Whether the tree may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// As the mount it was cut from: read-only mounts stay so.
    AsMounted,
    /// Writing is refused on every mount of the tree.
    ReadOnly,
}

/// Cuts out a copy of the tree at `path`, a folder or a file; a symbolic link is
/// followed.
///
/// The copy hears of mounts and unmounts in the original (slave) but not the
/// other way round, and never honours a set-user-id bit or opens a
/// device on the host: that is for the guest to decide, in its mounts.
///
/// # Errors
/// [`Error::Refused`] with the step; needs CAP_SYS_ADMIN over the mount
/// namespace of the caller.
pub fn detach(path: &Path, tree: Tree, access: Access) -> Result<OwnedFd, Error> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if tree == Tree::Recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let mount = open_tree(CWD, path, flags).map_err(Step::OpenTree(path.into()).refused())?;
    // Not noexec: the guest asks through access(2) whether a file may be executed.
    let mut set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    if access == Access::ReadOnly {
        set |= libc::MOUNT_ATTR_RDONLY;
    }
    let attributes = MountAttributes {
        set,
        propagation: libc::MS_SLAVE,
    };
    sys::mount_setattr(mount.as_fd(), Depth::All, attributes)
        .map_err(Step::SetMountAttributes(path.into()).refused())?;
    Ok(mount)
}
