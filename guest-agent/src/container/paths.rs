//! Hidden and read-only paths, and kernel settings below /proc/sys.
//!
//! Owns no path list: both come with the configuration. Paths that don't exist
//! are skipped, as the runtime specification says; settings must exist.

use std::{
    collections::HashMap,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FileType, Mode, OFlags, fstat, open},
    io::Errno,
};

use super::{file_system, mount_options::Bind, mounts, rootfs::Rootfs};
use crate::failure::{Attempt, Failure};

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
    /// One file system for all folders, once the first is hidden.
    empty: Option<OwnedFd>,
}

impl Cover {
    fn hide(&mut self, point: &OwnedFd) -> rustix::io::Result<()> {
        let is_folder = FileType::from_raw_mode(fstat(point)?.st_mode) == FileType::Directory;
        match &self.empty {
            _ if !is_folder => mounts::bind(&self.null, point, Bind::One).map(drop),
            Some(empty) => mounts::bind(empty, point, Bind::One).map(drop),
            None => {
                let empty = file_system::empty_folder()?;
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
        let failed = |errno: Errno| {
            let reason = crate::failure::Errno::from(errno);
            Failure::Refused(match errno {
                Errno::NOENT => {
                    format!("linux.sysctl: the guest's kernel has no setting {name:?}: {reason}")
                }
                _ => format!("linux.sysctl: set {name:?} to {value:?}: {reason}"),
            })
        };
        let path = setting_file(name);
        let flags = OFlags::WRONLY | OFlags::TRUNC;
        let file = rootfs.open(&path, flags).map_err(failed)?;
        rustix::io::write(&file, value.as_bytes()).map_err(failed)?;
    }
    Ok(())
}

/// In a name with slashes, dots are part of names: net/ipv4/conf/eth0.1/forwarding,
/// which is also spelled net.ipv4.conf.eth0/1.forwarding (sysctl(8)).
fn setting_file(name: &str) -> PathBuf {
    let slashes_first = name
        .find(['.', '/'])
        .is_some_and(|at| name[at..].starts_with('/'));
    let path: String = name
        .chars()
        .map(|letter| match letter {
            '.' if !slashes_first => '/',
            '/' if !slashes_first => '.',
            letter => letter,
        })
        .collect();
    Path::new("/proc/sys").join(path)
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
    fn a_dot_in_the_name_of_a_device_stays() {
        for (name, file) in [
            ("net.core.somaxconn", "net/core/somaxconn"),
            ("net/core/somaxconn", "net/core/somaxconn"),
            (
                "net.ipv4.conf.eth0/1.forwarding",
                "net/ipv4/conf/eth0.1/forwarding",
            ),
            (
                "net/ipv4/conf/eth0.1/forwarding",
                "net/ipv4/conf/eth0.1/forwarding",
            ),
        ] {
            assert_eq!(setting_file(name), Path::new("/proc/sys").join(file));
        }
    }

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
