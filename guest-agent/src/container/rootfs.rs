//! Paths below a container's root, resolved as the container would see them,
//! whatever links its image holds.
//!
//! Owns the resolving and the making of mount points. A link that points out of
//! the root leads to a place inside of it (CVE-2019-19921, CVE-2021-30465).

use std::{
    ffi::OsStr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use caisson_protocol::path::clean;
use rustix::{
    fs::{Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat},
    io::Errno,
};

use crate::failure::{Attempt, Failure};

/// The root directory of a container, before a process has it as `/`.
#[derive(Debug)]
pub(crate) struct Rootfs(OwnedFd);

/// The type of a mount point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PointKind {
    /// A directory.
    Directory,
    /// A file, for a bind mount of one.
    File,
}

impl Rootfs {
    /// Takes the mount of the root.
    #[must_use]
    pub(crate) const fn new(mount: OwnedFd) -> Self {
        Self(mount)
    }

    /// The mount itself.
    #[must_use]
    pub(crate) const fn mount(&self) -> &OwnedFd {
        &self.0
    }

    /// Opens a path inside the root.
    ///
    /// # Errors
    /// The kernel's, unchanged: callers distinguish a missing path from a refused one.
    pub(crate) fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        self.resolve(path, flags, ResolveFlags::empty())
    }

    /// Fails if the mount point of a file system of `kind` is, or lies behind, a symbolic
    /// link. A missing one is created later, and passes.
    ///
    /// # Errors
    /// [`Failure::Refused`] in runc's words.
    pub(crate) fn refuse_links(&self, path: &Path, kind: &str) -> Result<(), Failure> {
        match self.resolve(path, OFlags::PATH, ResolveFlags::NO_SYMLINKS) {
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::LOOP) => Err(Failure::Refused(format!(
                "filesystem {kind:?} must be mounted on ordinary directory: {} is a symbolic link",
                path.display()
            ))),
            refused => refused.map(drop).at("open", path),
        }
    }

    fn resolve(&self, path: &Path, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | resolve;
        loop {
            let opened = openat2(
                &self.0,
                path,
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                within,
            );
            // The kernel saw a rename somewhere while it went up a path.
            if !matches!(opened, Err(Errno::AGAIN)) {
                return opened;
            }
        }
    }

    /// Opens a mount point, making it and its parents where they are missing.
    ///
    /// # Errors
    /// What could not be made, and why.
    pub(crate) fn mount_point(&self, path: &Path, kind: PointKind) -> Result<OwnedFd, Failure> {
        self.make(path, kind, MAX_LINKS)
    }

    fn make(&self, path: &Path, kind: PointKind, links: u32) -> Result<OwnedFd, Failure> {
        let path = &clean(path);
        match self.open(path, OFlags::PATH) {
            Err(Errno::NOENT) => {}
            opened => return opened.at("open", path),
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::NOENT).at("open", path);
        };
        let directory = self.make(parent, PointKind::Directory, links)?;
        match make_entry(&directory, name, kind) {
            Err(Errno::EXIST) if links > 0 => {
                let target = readlinkat(&directory, name, Vec::new()).at("read link", path)?;
                let target = parent.join(OsStr::from_bytes(target.to_bytes()));
                self.make(&target, kind, links - 1)
            }
            made => made.at("create mount point", path),
        }
    }
}

fn make_entry(directory: &OwnedFd, name: &OsStr, kind: PointKind) -> Result<OwnedFd, Errno> {
    let open = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match kind {
        PointKind::Directory => mkdirat(directory, name, Mode::from_raw_mode(0o755))?,
        PointKind::File => {
            let create = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            drop(openat(directory, name, create, Mode::from_raw_mode(0o644))?);
        }
    }
    openat(directory.as_fd(), name, open, Mode::empty())
}

/// Links that lead to something missing, one after the other; as the kernel's.
const MAX_LINKS: u32 = 40;

#[cfg(test)]
#[path = "rootfs_test.rs"]
mod tests;
