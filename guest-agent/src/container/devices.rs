//! The device nodes and links that every container has, and the configured ones.
//!
//! Owns which nodes may be made: character devices whose numbers are the same on
//! every Linux. Block devices and the host's own numbers mean nothing here.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use caisson_protocol::is_universal_device;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Mount};
use rustix::{
    fs::{
        AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, makedev, mknodat, openat,
        symlinkat, unlinkat,
    },
    io::Errno,
};

use super::{
    mount_options::Bind,
    mounts,
    rootfs::{PointKind, Rootfs},
};
use crate::failure::{Attempt, Failure};

/// One device node to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    path: PathBuf,
    kind: FileType,
    major: u32,
    minor: u32,
    mode: u32,
    owner: (u32, u32),
}

/// Whether /dev is the container's own; nothing is made in one that is bound.
#[must_use]
pub(crate) fn has_own_dev(mounts: &[Mount]) -> bool {
    let is_bind = |mount: &Mount| {
        let options = mount.options().as_deref().unwrap_or_default();
        mount.typ().as_deref() == Some("bind")
            || options
                .iter()
                .any(|option| option == "bind" || option == "rbind")
    };
    !mounts
        .iter()
        .any(|mount| mount.destination() == Path::new("/dev") && is_bind(mount))
}

/// The default nodes, then the configured ones, which replace them by path.
///
/// # Errors
/// [`Failure::Refused`] for a device that the guest doesn't have.
pub(crate) fn nodes(configured: &[LinuxDevice]) -> Result<Vec<Node>, Failure> {
    let mut nodes: Vec<Node> = DEFAULT_NODES
        .iter()
        .map(|&(name, major, minor)| Node {
            path: Path::new("/dev").join(name),
            kind: FileType::CharacterDevice,
            major,
            minor,
            mode: 0o666,
            owner: (0, 0),
        })
        .collect();
    for device in configured {
        let node = configured_node(device)?;
        nodes.retain(|other| other.path != node.path);
        nodes.push(node);
    }
    Ok(nodes)
}

fn configured_node(device: &LinuxDevice) -> Result<Node, Failure> {
    let number = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    let (major, minor) = (number(device.major()), number(device.minor()));
    let kind = match device.typ() {
        LinuxDeviceType::P => FileType::Fifo,
        LinuxDeviceType::C | LinuxDeviceType::U
            if is_universal_device(device.major(), device.minor()) =>
        {
            FileType::CharacterDevice
        }
        kind => {
            return Err(Failure::Refused(format!(
                "linux.devices: {} ({} {major}:{minor}) doesn't exist in the guest",
                device.path().display(),
                kind.as_str(),
            )));
        }
    };
    Ok(Node {
        path: device.path().clone(),
        kind,
        major,
        minor,
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        owner: (device.uid().unwrap_or(0), device.gid().unwrap_or(0)),
    })
}

/// Makes the nodes, then the links.
///
/// # Errors
/// The first node or link that can't be made.
pub(crate) fn make(rootfs: &Rootfs, nodes: &[Node]) -> Result<(), Failure> {
    for node in nodes {
        make_node(rootfs, node)?;
    }
    let dev = rootfs.mount_point(Path::new("/dev"), PointKind::Directory)?;
    for (link, target) in LINKS {
        match symlinkat(target, &dev, link) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).at("create link /dev", link),
        }
    }
    make_ptmx(&dev)
}

/// The terminal multiplexer must be that of the container's own devpts.
fn make_ptmx(dev: &OwnedFd) -> Result<(), Failure> {
    match unlinkat(dev, "ptmx", AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno).at("replace", "/dev/ptmx"),
    }
    symlinkat("pts/ptmx", dev, "ptmx").at("create link", "/dev/ptmx")
}

fn make_node(rootfs: &Rootfs, node: &Node) -> Result<(), Failure> {
    let path = &node.path;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL).at("create device", path);
    };
    let directory = rootfs.mount_point(parent, PointKind::Directory)?;
    let mode = Mode::from_raw_mode(node.mode);
    match mknodat(
        &directory,
        name,
        node.kind,
        mode,
        makedev(node.major, node.minor),
    ) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(()),
        // In a user namespace, or on a shared file system, nodes can't be made,
        // so the guest's own node is bound.
        Err(Errno::PERM) => return bind_node(rootfs, node),
        Err(errno) => return Err(errno).at("create device", path),
    }
    let (uid, gid) = (Uid::from_raw(node.owner.0), Gid::from_raw(node.owner.1));
    chownat(
        &directory,
        name,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .at("set owner of device", path)?;
    chmodat(&directory, name, mode, AtFlags::empty()).at("set mode of device", path)
}

fn bind_node(rootfs: &Rootfs, node: &Node) -> Result<(), Failure> {
    let path = &node.path;
    let flags = mounts::POINT | OFlags::CLOEXEC;
    let guest = openat(CWD, path, flags, Mode::empty()).at("open the guest's device", path)?;
    let point = rootfs.mount_point(path, PointKind::File)?;
    mounts::bind(&guest, &point, Bind::One).at("bind device", path)?;
    Ok(())
}

/// Binds the slave of the process's terminal to the container's console.
///
/// # Errors
/// What could not be made.
pub(crate) fn bind_console(rootfs: &Rootfs, slave: &OwnedFd) -> Result<(), Failure> {
    let point = console_point(rootfs)?;
    mounts::bind(slave, &point, Bind::One).at("bind the terminal to", CONSOLE)?;
    Ok(())
}

/// Opens the mount point of the console; made if it is missing.
///
/// # Errors
/// What could not be made.
pub(crate) fn console_point(rootfs: &Rootfs) -> Result<OwnedFd, Failure> {
    rootfs.mount_point(Path::new(CONSOLE), PointKind::File)
}

const CONSOLE: &str = "/dev/console";

/// runtime-spec config-linux.md, "Default Devices".
const DEFAULT_NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// runtime-spec runtime-linux.md, "Dev symbolic links".
const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn device(json: &str) -> LinuxDevice {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_configured_node_replaces_the_default_of_its_path() {
        let null =
            device(r#"{"path":"/dev/null","type":"c","major":1,"minor":3,"fileMode":432,"uid":5}"#);
        let nodes = nodes(&[null]).unwrap();
        let found: Vec<_> = nodes
            .iter()
            .filter(|node| node.path.ends_with("null"))
            .collect();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].mode, found[0].owner), (0o660, (5, 0)));
    }

    #[test]
    fn a_device_of_the_host_is_refused_by_name() {
        for json in [
            r#"{"path":"/dev/sda","type":"b","major":8,"minor":0}"#,
            r#"{"path":"/dev/mem","type":"c","major":1,"minor":1}"#,
        ] {
            let refused = nodes(&[device(json)]).unwrap_err().line();
            assert!(refused.starts_with("linux.devices: /dev/"), "{refused}");
        }
    }
}
