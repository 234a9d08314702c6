//! Hidden and read-only paths.
//!
//! Owns no path list: both come with the configuration. Paths that don't exist
//! are skipped, as the runtime specification requires.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{FileType, Mode, OFlags, fstat, open},
    io::Errno,
};

use super::{file_system, mount_options::Bind, mounts, rootfs::Rootfs};
use crate::failure::{Attempt, Failure};

/// Makes paths unreadable: a file shows /dev/null, a directory is empty.
///
/// # Errors
/// The first path that can't be hidden.
pub(crate) fn mask(rootfs: &Rootfs, paths: &[String]) -> Result<(), Failure> {
    if paths.is_empty() {
        return Ok(());
    }
    let null = open("/dev/null", mounts::POINT | OFlags::CLOEXEC, Mode::empty())
        .at("open", "/dev/null")?;
    let mut cover = Cover { null, empty: None };
    for path in paths {
        if let Some(point) = existing(rootfs, path)? {
            cover.hide(&point).at("mask", path)?;
        }
    }
    Ok(())
}

/// What hides others.
struct Cover {
    null: OwnedFd,
    /// One file system for all directories, once the first is hidden.
    empty: Option<OwnedFd>,
}

impl Cover {
    fn hide(&mut self, point: &OwnedFd) -> rustix::io::Result<()> {
        let is_directory = FileType::from_raw_mode(fstat(point)?.st_mode) == FileType::Directory;
        match &self.empty {
            _ if !is_directory => mounts::bind(&self.null, point, Bind::One).map(drop),
            Some(empty) => mounts::bind(empty, point, Bind::One).map(drop),
            None => {
                let empty = file_system::empty_directory()?;
                mounts::attach_tree(&empty, point)?;
                self.empty = Some(empty);
                Ok(())
            }
        }
    }
}

/// Makes paths read-only, with what is mounted below them still shown.
///
/// # Errors
/// The first path that can't be.
pub(crate) fn make_read_only(rootfs: &Rootfs, paths: &[String]) -> Result<(), Failure> {
    for path in paths {
        if let Some(point) = existing(rootfs, path)? {
            let shown = mounts::bind(&point, &point, Bind::Tree).at("bind", path)?;
            mounts::make_read_only(shown.as_fd()).at("make read-only", path)?;
        }
    }
    Ok(())
}

fn existing(rootfs: &Rootfs, path: &str) -> Result<Option<OwnedFd>, Failure> {
    match rootfs.open(Path::new(path), mounts::POINT) {
        Ok(point) => Ok(Some(point)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno).at("open", path),
    }
}
