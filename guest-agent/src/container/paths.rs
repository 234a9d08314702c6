//! Hidden and read-only paths, and kernel settings below /proc/sys.
//!
//! Owns no path list: both come with the configuration. Paths that don't exist
//! are skipped, as the runtime specification says; settings must exist.

use std::{collections::HashMap, path::Path};

use rustix::{
    fs::{FileType, Mode, OFlags, fstat, open},
    io::Errno,
};

use super::{mount_options::Bind, mounts, rootfs::Rootfs};
use crate::failure::{Attempt, Failure};
use std::os::fd::{AsFd, OwnedFd};

/// Makes paths unreadable: a file shows /dev/null, a folder is empty.
///
/// # Errors
/// The first path that can't be hidden.
pub(crate) fn mask(rootfs: &Rootfs, paths: &[String]) -> Result<(), Failure> {
    if paths.is_empty() {
        return Ok(());
    }
    let null = open("/dev/null", mounts::POINT | OFlags::CLOEXEC, Mode::empty())
        .at("open", "/dev/null")?;
    for path in paths {
        if let Some(point) = existing(rootfs, path)? {
            hide(&null, &point).at("mask", path)?;
        }
    }
    Ok(())
}

fn hide(null: &OwnedFd, point: &OwnedFd) -> rustix::io::Result<()> {
    if FileType::from_raw_mode(fstat(point)?.st_mode) == FileType::Directory {
        mounts::attach_tree(&mounts::empty_folder()?, point)
    } else {
        mounts::bind(null, point, Bind::One).map(drop)
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

/// Sets kernel settings that belong to the container's namespaces.
///
/// # Errors
/// [`Failure::Refused`] for a setting of the whole kernel, else the kernel's,
/// which for an unknown setting is that its file doesn't exist.
pub(crate) fn set_kernel_settings(
    rootfs: &Rootfs,
    settings: &HashMap<String, String>,
) -> Result<(), Failure> {
    for (name, value) in settings {
        if !is_namespaced(name) {
            return Err(Failure::Refused(format!(
                "sysctl {name:?} is not in a separate kernel namespace"
            )));
        }
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let flags = OFlags::WRONLY | OFlags::TRUNC;
        let file = rootfs.open(Path::new(&path), flags).at("open", &path)?;
        rustix::io::write(&file, value.as_bytes()).at("write", &path)?;
    }
    Ok(())
}

/// As runc decides: what IPC, network and UTS namespaces keep apart.
fn is_namespaced(name: &str) -> bool {
    let name = name.replace('/', ".");
    IPC_SETTINGS.contains(&name.as_str())
        || ["fs.mqueue.", "net."]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        || name == "kernel.domainname"
}

const IPC_SETTINGS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_of_namespaces_are_the_containers_own() {
        for own in [
            "net.ipv4.ip_forward",
            "net/core/somaxconn",
            "fs.mqueue.msg_max",
            "kernel.sem",
        ] {
            assert!(is_namespaced(own), "{own}");
        }
        for shared in [
            "vm.swappiness",
            "kernel.panic",
            "kernel.shmmaximum",
            "network.x",
        ] {
            assert!(!is_namespaced(shared), "{shared}");
        }
    }
}
