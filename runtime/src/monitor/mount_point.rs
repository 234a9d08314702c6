//! Makes the mount points that a root file system lacks, as runc does.
//!
//! Only for a read-only root: it is shared read-only, so the guest can't. The
//! root file system is not trusted: its links are resolved inside it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use caisson_protocol::path::clean;
use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, open, openat, openat2, readlinkat};
use rustix::io::Errno;
use serde_json::Value;

use crate::monitor::error::Error;
use crate::oci::plan::MountPoint;

const FOLDER_MODE: Mode = Mode::from_raw_mode(0o755);
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);
const POINT: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
/// Links that lead to something missing, one after the other; as the kernel's.
const MAX_LINKS: u32 = 40;

/// Makes each place that is missing. Answers which were.
pub(crate) fn make(rootfs: &Path, places: &[MountPoint]) -> Result<Vec<PathBuf>, Error> {
    let mut made = Vec::new();
    if places.is_empty() {
        return Ok(made);
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
        if matches!(inside(&root, &place.destination), Err(Errno::NOENT)) {
            made.push(place.destination.clone());
        }
        // Devices, pipes and sockets are bound over a file too.
        let is_file = place.source.as_ref().is_some_and(|source| !source.is_dir());
        make_place(&root, &place.destination, is_file, MAX_LINKS)
            .map_err(failed(&place.destination))?;
    }
    Ok(made)
}

/// A tmpfs takes the mode of the directory it covers, unless that was missing.
pub(crate) fn give_modes(guest_spec: &mut Value, made: &[PathBuf]) {
    let mounts = guest_spec["mounts"].as_array_mut();
    for mount in mounts.into_iter().flatten() {
        let is_new = |place: &PathBuf| mount["destination"].as_str().map(Path::new) == Some(place);
        let options = mount["options"].as_array().map_or(&[][..], Vec::as_slice);
        let has_mode = options.iter().any(|option| is_mode(option.as_str()));
        if mount["type"] == "tmpfs" && !has_mode && made.iter().any(is_new) {
            let mut options = options.to_vec();
            options.push(format!("mode={NEW_TMPFS}").into());
            mount["options"] = options.into();
        }
    }
}

fn is_mode(option: Option<&str>) -> bool {
    option.is_some_and(|option| option.starts_with("mode="))
}

/// What the kernel gives to one without a mode.
const NEW_TMPFS: &str = "1777";

/// A link that leads to something missing is followed, and that is made.
fn make_place(root: &OwnedFd, path: &Path, is_file: bool, links: u32) -> Result<OwnedFd, Errno> {
    let path = &clean(path);
    match inside(root, path) {
        Err(Errno::NOENT) => {}
        opened => return opened,
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::NOENT);
    };
    let folder = make_place(root, parent, false, links)?;
    let made = if is_file {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        openat(&folder, name, flags, FILE_MODE).map(drop)
    } else {
        mkdirat(&folder, name, FOLDER_MODE)
    };
    match made {
        Err(Errno::EXIST) if links > 0 => {
            let target = readlinkat(&folder, name, Vec::new())?;
            let target = parent.join(OsStr::from_bytes(target.to_bytes()));
            make_place(root, &target, is_file, links - 1)
        }
        Err(errno) => Err(errno),
        Ok(()) => openat(&folder, name, POINT | OFlags::NOFOLLOW, Mode::empty()),
    }
}

fn inside(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    openat2(root, path, POINT, Mode::empty(), ResolveFlags::IN_ROOT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tmpfs_on_a_new_place_has_the_mode_of_a_tmpfs() {
        let mut spec = serde_json::json!({"mounts": [
            {"destination": "/new", "type": "tmpfs"},
            {"destination": "/old", "type": "tmpfs"},
            {"destination": "/said", "type": "tmpfs", "options": ["mode=700"]},
        ]});
        give_modes(&mut spec, &["/new".into(), "/said".into()]);
        let options = |number: usize| spec["mounts"][number]["options"].to_string();
        assert_eq!(
            [options(0), options(1), options(2)],
            ["[\"mode=1777\"]", "null", "[\"mode=700\"]"]
        );
    }

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
        let socket = folder.join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let places = [
            place("/run/s", Some(&socket)),
            place("/srv/directory", Some(&folder)),
            place("/a/b", None),
            place("/up/c", None),
            place("/etc/f", Some(&file)),
        ];
        let made = make(&rootfs, &places).unwrap();
        assert_eq!(made.len(), 5);
        assert!(rootfs.join("run/s").is_file() && rootfs.join("srv/directory").is_dir());
        assert_eq!(make(&rootfs, &places).unwrap(), [""; 0].map(PathBuf::from));
        assert!(rootfs.join("a/b").is_dir() && rootfs.join("c").is_dir());
        assert!(rootfs.join("etc/f").is_file());
        // A link that leads to nowhere inside is not followed to the host's directory.
        make(&rootfs, &[place("/link/d", None)]).unwrap();
        assert!(rootfs.join("outside/d").is_dir() && !Path::new("/outside").exists());
        std::os::unix::fs::symlink("loop", rootfs.join("loop")).unwrap();
        make(&rootfs, &[place("/loop", None)]).unwrap_err();
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
