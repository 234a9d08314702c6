//! The root directory of a jailed process: an own tmpfs with the mounts it was
//! given, and nothing of the host. Decides nothing about what is served.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};
use serde::{Deserialize, Serialize};

use crate::detached::{Access, Tree, detach};
use crate::error::{Error, Step};
use crate::sys;

/// A root in the making: a tmpfs that is attached nowhere yet.
#[derive(Debug)]
pub struct NewRoot {
    mount: OwnedFd,
}

/// What can be seen at a path of the new root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A directory with everything below it.
    Directory,
    /// One file.
    File,
}

impl NewRoot {
    pub(crate) fn new() -> Result<Self, Error> {
        let refused = |e: Errno| Step::MakeRoot.refused()(e);
        let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(refused)?;
        fsconfig_set_string(fs.as_fd(), "mode", "0755").map_err(refused)?;
        fsconfig_create(fs.as_fd()).map_err(refused)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let mount =
            fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(refused)?;
        Ok(Self { mount })
    }

    /// The root of a jail that exists, by a mount of it that can be written to.
    pub(crate) const fn at(mount: OwnedFd) -> Self {
        Self { mount }
    }

    /// Attaches the detached mount `tree` at `path`, making directories and a
    /// placeholder of the same kind on the way. `path` is relative, without `.`
    /// and `..`.
    ///
    /// # Errors
    /// [`Error::NotPlainRelative`], or the step that was refused.
    pub fn attach(&self, path: &Path, kind: Kind, tree: impl AsFd) -> Result<(), Error> {
        let place = self.placeholder(path, kind)?;
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(tree, "", place, "", flags).map_err(Step::Attach(path.into()).refused())
    }

    /// Shows the process its own descriptors as `/proc/self/fd`, and of `/proc` nothing
    /// else: for programs that open by name what they were given. Also after an exec.
    ///
    /// # Errors
    /// The step that was refused.
    pub fn attach_own_descriptors(&self) -> Result<(), Error> {
        let tree = detach(Path::new("/proc/self/fd"), Tree::One, Access::ReadOnly)?;
        self.attach(Path::new("proc/self/fd"), Kind::Directory, tree)
    }

    /// Makes `path` and every directory above it; existing ones stay.
    pub(crate) fn placeholder(&self, path: &Path, kind: Kind) -> Result<OwnedFd, Error> {
        let names = plain_names(path)?;
        let refused = |e: Errno| Step::MakePlaceholder(path.into()).refused()(e);
        let (last, above) = names
            .split_last()
            .ok_or_else(|| Error::NotPlainRelative(path.into()))?;
        let mut at = self.mount.try_clone().map_err(Step::MakeRoot.refused())?;
        for name in above {
            at = make_directory(&at, name).map_err(refused)?;
        }
        match kind {
            Kind::Directory => make_directory(&at, last),
            Kind::File => make_file(&at, last),
        }
        .map_err(refused)
    }

    /// Makes this the root of the process, read-only, and lets go of the old
    /// one with everything below it.
    pub(crate) fn pivot(self) -> Result<(), Error> {
        let at_root = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&self.mount, "", CWD, "/", at_root).map_err(Step::AttachRoot.refused())?;
        let read_only = sys::MountAttributes {
            set: libc::MOUNT_ATTR_RDONLY | sys::MOUNT_ATTR_NOSYMFOLLOW,
            clear: 0,
            propagation: libc::MS_PRIVATE,
            ..Default::default()
        };
        sys::mount_setattr(self.mount.as_fd(), sys::Depth::One, read_only)
            .map_err(Step::AttachRoot.refused())?;
        fchdir(&self.mount).map_err(Step::PivotRoot.refused())?;
        // Puts the old root on top of the new one, where the unmount finds it.
        pivot_root(".", ".").map_err(Step::PivotRoot.refused())?;
        unmount(".", UnmountFlags::DETACH).map_err(Step::DetachOldRoot.refused())?;
        chdir("/").map_err(Step::PivotRoot.refused())
    }
}

impl AsFd for NewRoot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }
}

const FOLDER: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

fn make_directory(at: &OwnedFd, name: &Path) -> Result<OwnedFd, Errno> {
    match mkdirat(at, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => openat(at, name, FOLDER, Mode::empty()),
        Err(e) => Err(e),
    }
}

fn make_file(at: &OwnedFd, name: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::from_raw_mode(0o644))
}

fn plain_names(path: &Path) -> Result<Vec<PathBuf>, Error> {
    path.components()
        .map(|component| match component {
            Component::Normal(name) => Ok(PathBuf::from(name)),
            _ => Err(Error::NotPlainRelative(path.into())),
        })
        .collect()
}

/// Fails unless the mount `tree` refuses to be written to; `path` names it in
/// the error.
///
/// # Errors
/// [`Error::Writable`], or [`Error::Refused`] if the mount cannot be asked.
pub fn require_read_only(tree: impl AsFd, path: &Path) -> Result<(), Error> {
    let refused = |e: Errno| Step::CheckReadOnly(path.into()).refused()(e);
    let mount = rustix::fs::fstatvfs(tree).map_err(refused)?;
    if mount.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        Ok(())
    } else {
        Err(Error::Writable(path.into()))
    }
}
