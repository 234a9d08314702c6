//! Makes the mount points that a root file system lacks, as runc does.
//!
//! Only for a read-only root: it is shared read-only, so the guest can't. The
//! root file system is not trusted: its links are resolved inside it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, open, openat, openat2};
use rustix::io::Errno;

use super::error::Error;
use crate::plan::MountPoint;

const FOLDER_MODE: Mode = Mode::from_raw_mode(0o755);
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);

/// Makes each place that is missing.
pub(crate) fn make(rootfs: &Path, places: &[MountPoint]) -> Result<(), Error> {
    if places.is_empty() {
        return Ok(());
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |errno: Errno| Error::MountPoint {
            path,
            source: io::Error::from(errno),
        }
    };
    let root =
        open(rootfs, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(failed(rootfs))?;
    for place in places {
        let is_file = place.source.as_ref().is_some_and(|source| source.is_file());
        make_place(&root, &place.destination, is_file).map_err(failed(&place.destination))?;
    }
    Ok(())
}

fn make_place(root: &OwnedFd, destination: &Path, is_file: bool) -> Result<(), Errno> {
    let mut path = PathBuf::from(".");
    let names: Vec<_> = destination
        .components()
        .filter_map(|part| {
            if let Component::Normal(name) = part {
                Some(name)
            } else {
                None
            }
        })
        .collect();
    for (number, name) in names.iter().enumerate() {
        let parent = inside(root, &path)?;
        path.push(name);
        match inside(root, &path) {
            Ok(_) => {}
            Err(Errno::NOENT) if is_file && number + 1 == names.len() => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                openat(&parent, *name, flags, FILE_MODE)?;
            }
            Err(Errno::NOENT) => mkdirat(&parent, *name, FOLDER_MODE)?,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn inside(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_made_inside_the_root_file_system_only() {
        let folder = std::env::temp_dir().join(format!("caisson-places-{}", std::process::id()));
        let rootfs = folder.join("rootfs");
        std::fs::create_dir_all(&rootfs).unwrap();
        std::os::unix::fs::symlink("/outside", rootfs.join("link")).unwrap();
        std::os::unix::fs::symlink("../..", rootfs.join("up")).unwrap();
        let file = rootfs.join("source");
        std::fs::write(&file, "").unwrap();
        let place = |destination: &str, source: Option<&Path>| MountPoint {
            destination: destination.into(),
            source: source.map(Path::to_owned),
        };
        let places = [
            place("/a/b", None),
            place("/up/c", None),
            place("/etc/f", Some(&file)),
        ];
        make(&rootfs, &places).unwrap();
        assert!(rootfs.join("a/b").is_dir() && rootfs.join("c").is_dir());
        assert!(rootfs.join("etc/f").is_file());
        // A link to nowhere inside is not followed to the host's folder.
        make(&rootfs, &[place("/link/d", None)]).unwrap_err();
        assert!(!Path::new("/outside").exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
