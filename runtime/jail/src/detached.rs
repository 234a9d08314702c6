//! Mounts without a place, for a helper to serve: the owner makes them, passes
//! the descriptor, and the helper attaches them in its own mount namespace. No
//! mount ever shows in the owner's namespace, and none outlives the descriptors.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
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
    /// Writing is refused on the mount itself, not on those below it.
    ReadOnlyItself,
    /// Writing is refused on every mount of the tree.
    ReadOnly,
}

/// Cuts out a copy of the tree at `path`, a directory or a file; a symbolic link is
/// followed.
///
/// The copy stays as it is, whatever is mounted in the original later: that may be a
/// file system of the host's kernel. It never honours a set-user-id bit or opens a device
/// on the host: that is for the guest to decide, in its mounts.
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
        clear: 0,
        propagation: libc::MS_PRIVATE,
        ..Default::default()
    };
    let refused = || Step::SetMountAttributes(path.into()).refused();
    sys::mount_setattr(mount.as_fd(), Depth::All, attributes).map_err(refused())?;
    if access == Access::ReadOnlyItself {
        let read_only = MountAttributes {
            set: libc::MOUNT_ATTR_RDONLY,
            ..Default::default()
        };
        sys::mount_setattr(mount.as_fd(), Depth::One, read_only).map_err(refused())?;
    }
    Ok(mount)
}

/// Has the files of a detached `mount`, cut out at `path`, be seen under the ids that
/// the maps of a user namespace give them: what is `inside` there on the disk.
/// Files without an id in the maps belong to nobody.
///
/// # Errors
/// [`Error::Refused`]; the file system has to support it, and the caller to be root
/// of the user namespace that it was mounted in.
pub fn map_ids(
    mount: &OwnedFd,
    tree: Tree,
    namespace: BorrowedFd<'_>,
    path: &Path,
) -> Result<(), Error> {
    let depth = match tree {
        Tree::One => Depth::One,
        Tree::Recursive => Depth::All,
    };
    let attributes = MountAttributes {
        ids_of: Some(namespace),
        ..Default::default()
    };
    sys::mount_setattr(mount.as_fd(), depth, attributes)
        .map_err(Step::MapIds(path.into()).refused())
}
