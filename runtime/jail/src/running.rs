//! Attaches mounts to a running helper, in its jail, and detaches them again: from outside, by the owner, since the helper has lost the right to.
//!
//! The calling thread goes into the helper's mount namespace for good, so it is
//! one that is made for this and ends after it. No path is taken from what is
//! served: names are looked up in the jail's own root, and no further.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, openat, openat2, unlinkat};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};

use crate::error::{Error, Step};
use crate::root::Kind;
use crate::root::NewRoot;
use crate::sys::{self, Depth, MountAttributes};

/// One detached mount and its place.
#[derive(Debug)]
pub struct PlacedMount {
    /// Relative to the root of the jail, without `.` and `..`.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// The mount.
    pub tree: OwnedFd,
}

/// Attaches `mounts` in the jail of the process behind the pidfd `helper`.
///
/// # Errors
/// The step that was refused; mounts before it stay, see [`detach`].
pub fn attach(helper: impl AsFd, mounts: &[PlacedMount]) -> Result<(), Error> {
    let (root, writable) = enter(helper)?;
    for PlacedMount { path, kind, tree } in mounts {
        writable.placeholder(path, *kind)?;
        let place = find(&root, path).map_err(Step::MakePlaceholder(path.clone()).refused())?;
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(tree, "", place, "", flags).map_err(Step::Attach(path.clone()).refused())?;
    }
    Ok(())
}

/// Takes away what was attached at `paths`, and their placeholders. What a guest
/// still holds open lives on until it lets go.
///
/// # Errors
/// When the jail can't be entered. What is not there is no error.
pub fn detach(helper: impl AsFd, paths: &[PathBuf]) -> Result<(), Error> {
    let (_, writable) = enter(helper)?;
    for path in paths {
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        unmount(Path::new("/").join(path), flags).ok();
        unlinkat(&writable, path, AtFlags::empty()).ok();
        // A directory goes once nothing is left in it.
        for directory in path
            .ancestors()
            .filter(|directory| directory.parent().is_some())
        {
            unlinkat(&writable, directory, AtFlags::REMOVEDIR).ok();
        }
    }
    Ok(())
}

/// Lets what is attached in the jail be written to: the mounts of `trees` alone, not
/// those below them.
///
/// # Errors
/// The step that was refused.
pub fn make_writable(helper: impl AsFd, trees: &[BorrowedFd<'_>]) -> Result<(), Error> {
    if trees.is_empty() {
        return Ok(());
    }
    enter(helper)?;
    let attributes = MountAttributes {
        clear: libc::MOUNT_ATTR_RDONLY,
        ..MountAttributes::default()
    };
    trees.iter().try_for_each(|tree| {
        let changed = sys::mount_setattr(*tree, Depth::One, attributes);
        changed.map_err(Step::MakeWritable.refused())
    })
}

/// The jail's root, and a second look at the same file system that is not
/// read-only, as the helper's is.
fn enter(helper: impl AsFd) -> Result<(OwnedFd, NewRoot), Error> {
    // A mount namespace can't be entered with a working directory that others share.
    unshare(CloneFlags::CLONE_FS)
        .and_then(|()| setns(helper.as_fd(), CloneFlags::CLONE_NEWNS))
        .map_err(Step::EnterJail.refused())?;
    let refused = |errno: Errno| Step::EnterJail.refused()(errno);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, "/", flags, Mode::empty()).map_err(refused)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let writable = open_tree(CWD, "/", flags).map_err(refused)?;
    let attributes = MountAttributes {
        set: 0,
        clear: libc::MOUNT_ATTR_RDONLY,
        ..MountAttributes::default()
    };
    sys::mount_setattr(writable.as_fd(), Depth::One, attributes)
        .map_err(Step::EnterJail.refused())?;
    Ok((root, NewRoot::at(writable)))
}

/// A name in the jail's own root: not in a mount, and not behind a link.
fn find(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    openat2(root, path, flags, Mode::empty(), resolve)
}
