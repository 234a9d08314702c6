//! Mounts without a place, for a helper to serve: the owner makes them, passes
//! the descriptor, and the helper attaches them in its own mount namespace. No
//! mount ever shows in the owner's namespace, and none outlives the descriptors.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::error::{Error, Step};
use crate::sys::{self, Depth, MountAttributes};

/// How a tree is cut out of the owner's mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tree {
    /// The mount of the path alone; mounts below it look like empty directories.
    One,
    /// The mount with everything mounted below it.
    Recursive,
}

impl Tree {
    const fn depth(self) -> Depth {
        match self {
            Self::One => Depth::One,
            Self::Recursive => Depth::All,
        }
    }
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

/// When reading changes the access times of files; what is not chosen stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AccessTimes {
    /// For which reads.
    pub kind: Option<AccessTime>,
    /// Whether for directories, too.
    pub directories: Option<bool>,
}

/// When a read changes the access time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessTime {
    /// When it is older than the last change, or than a day.
    Relative,
    /// Never.
    Never,
    /// Always.
    Strict,
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
    restrict(&mount, access, path)?;
    Ok(mount)
}

/// Makes a detached `mount`, cut out at `path`, one that [`detach`] returns.
///
/// # Errors
/// [`Error::Refused`] with the step.
pub fn restrict(mount: &OwnedFd, access: Access, path: &Path) -> Result<(), Error> {
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
    Ok(())
}

/// Chooses when the access times of a detached `mount`, cut out at `path`, change.
///
/// # Errors
/// [`Error::Refused`]; who has the mount from another user namespace can't choose.
pub fn set_access_times(
    mount: &OwnedFd,
    tree: Tree,
    times: AccessTimes,
    path: &Path,
) -> Result<(), Error> {
    if times == AccessTimes::default() {
        return Ok(());
    }
    let mut attributes = MountAttributes::default();
    if let Some(kind) = times.kind {
        attributes.clear |= libc::MOUNT_ATTR__ATIME;
        attributes.set |= match kind {
            AccessTime::Relative => libc::MOUNT_ATTR_RELATIME,
            AccessTime::Never => libc::MOUNT_ATTR_NOATIME,
            AccessTime::Strict => libc::MOUNT_ATTR_STRICTATIME,
        };
    }
    match times.directories {
        Some(true) => attributes.clear |= libc::MOUNT_ATTR_NODIRATIME,
        Some(false) => attributes.set |= libc::MOUNT_ATTR_NODIRATIME,
        None => {}
    }
    sys::mount_setattr(mount.as_fd(), tree.depth(), attributes)
        .map_err(Step::SetAccessTimes(path.into()).refused())
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
    let attributes = MountAttributes {
        ids_of: Some(namespace),
        ..Default::default()
    };
    sys::mount_setattr(mount.as_fd(), tree.depth(), attributes)
        .map_err(Step::MapIds(path.into()).refused())
}
