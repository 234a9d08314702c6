//! The mounts of a container, in the order of its configuration.
//!
//! Owns the making of file systems and trees. They are made detached, get their
//! flags, and are attached last, so that nothing half-made can be seen. Sources
//! are opened by [`prepare`], with the guest's own rights, before the container's
//! user namespace is entered; [`attach`] runs inside it.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use oci_spec::runtime::Mount;
use rustix::{
    fs::{CWD, FileType, OFlags, fstat},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
        fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
    },
};

use super::{
    copy_up::copy_up,
    mount_options::{self, Bind, MountOptions, READ_ONLY},
    rootfs::{PointKind, Rootfs},
};
use crate::{
    failure::{Attempt, Failure},
    sys::{MountAttributes, set_mount_attributes},
};

/// One mount whose source is open.
#[derive(Debug)]
pub(crate) struct PreparedMount {
    destination: PathBuf,
    options: MountOptions,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// A detached mount.
    Tree(OwnedFd),
    /// Made inside the container's namespaces, whose view it shows.
    Fresh { kind: String, name: String },
}

/// What the mounts of a container depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    /// The container's cgroup.
    pub(crate) cgroup: &'a Path,
    /// It has a cgroup namespace of its own.
    pub(crate) own_cgroup_namespace: bool,
}

/// Parses every mount and opens its source.
///
/// # Errors
/// The first mount that can't be.
pub(crate) fn prepare(
    mounts: &[Mount],
    around: Surroundings<'_>,
) -> Result<Vec<PreparedMount>, Failure> {
    mounts
        .iter()
        .map(|mount| prepare_one(mount, around))
        .collect()
}

fn prepare_one(mount: &Mount, around: Surroundings<'_>) -> Result<PreparedMount, Failure> {
    let destination = mount.destination().clone();
    if mount.uid_mappings().is_some() || mount.gid_mappings().is_some() {
        return Err(Failure::Refused(format!(
            "mounts: id mappings of {} can't be applied in the guest",
            destination.display()
        )));
    }
    let options = mount_options::parse(mount.options().as_deref().unwrap_or_default())?;
    let kind = mount.typ().as_deref().unwrap_or_default();
    let named = mount.source().as_deref();
    let source = match (options.bind, kind) {
        (Some(bind), _) => Source::Tree(open_source(named, bind)?),
        (None, "bind") => Source::Tree(open_source(named, Bind::One)?),
        (None, "cgroup" | "cgroup2") if around.own_cgroup_namespace => Source::Fresh {
            kind: "cgroup2".to_owned(),
            name: "cgroup".to_owned(),
        },
        (None, "cgroup" | "cgroup2") => Source::Tree(clone_tree(around.cgroup, Bind::One)?),
        // Inside a user namespace the kernel refuses the sysfs of a network that
        // isn't the namespace's own, and the virtual machine is the network.
        (None, "sysfs") => {
            Source::Tree(make_file_system("sysfs", "sysfs", &options).at("mount", &destination)?)
        }
        (None, "") => {
            return Err(Failure::Refused(format!(
                "mounts: {} has neither a type nor the option bind",
                destination.display()
            )));
        }
        (None, kind) => Source::Fresh {
            kind: kind.to_owned(),
            name: named.map_or_else(|| kind.to_owned(), |name| name.display().to_string()),
        },
    };
    Ok(PreparedMount {
        destination,
        options,
        source,
    })
}

fn open_source(source: Option<&Path>, bind: Bind) -> Result<OwnedFd, Failure> {
    match source {
        Some(source) => clone_tree(source, bind),
        None => Err(Failure::Refused(
            "mounts: a bind mount has no source".to_owned(),
        )),
    }
}

/// A detached copy of the mount at `path`.
///
/// # Errors
/// The path is missing or can't be shown elsewhere.
pub(crate) fn clone_tree(path: &Path, bind: Bind) -> Result<OwnedFd, Failure> {
    let below = match bind {
        Bind::One => OpenTreeFlags::empty(),
        Bind::Tree => OpenTreeFlags::AT_RECURSIVE,
    };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | below;
    open_tree(CWD, path, flags).at("open mount source", path)
}

/// Attaches prepared mounts below the root, in order. Returns those that were
/// asked to be read-only but are written to until [`seal`].
///
/// # Errors
/// The first mount that can't be.
pub(crate) fn attach(rootfs: &Rootfs, mounts: Vec<PreparedMount>) -> Result<Vec<OwnedFd>, Failure> {
    let mut to_seal = Vec::new();
    for mount in mounts {
        let destination = mount.destination.clone();
        if let Some(tree) = attach_one(rootfs, mount, &destination)? {
            to_seal.push(tree);
        }
    }
    Ok(to_seal)
}

/// Makes read-only what had to be filled first.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn seal(trees: &[OwnedFd]) -> Result<(), Failure> {
    for tree in trees {
        make_read_only(tree.as_fd()).doing("make /dev read-only")?;
    }
    Ok(())
}

/// Makes one mount read-only.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn make_read_only(mount: BorrowedFd<'_>) -> std::io::Result<()> {
    let read_only = MountAttributes {
        set: READ_ONLY,
        ..Default::default()
    };
    set_mount_attributes(mount, read_only, false)
}

fn attach_one(
    rootfs: &Rootfs,
    mount: PreparedMount,
    destination: &Path,
) -> Result<Option<OwnedFd>, Failure> {
    let mut options = mount.options;
    let (tree, kernel_view) = match mount.source {
        Source::Tree(tree) => (tree, false),
        Source::Fresh { kind, name } => (
            make_file_system(&kind, &name, &options).at("mount", destination)?,
            kind == "proc",
        ),
    };
    let point = open_point(rootfs, destination, &tree, kernel_view)?;
    // Device nodes are still to be made in it.
    let sealed_later = destination == Path::new("/dev") && options.own.set & READ_ONLY != 0;
    if sealed_later {
        options.own.set &= !READ_ONLY;
    }
    if options.copy_up {
        copy_up(&point, &tree).at("copy up", destination)?;
    }
    apply_attributes(&tree, &options).at("set mount options of", destination)?;
    attach_tree(&tree, &point).at("mount", destination)?;
    for change in &options.propagation {
        let attributes = MountAttributes {
            propagation: change.kind,
            ..Default::default()
        };
        set_mount_attributes(tree.as_fd(), attributes, change.recursive)
            .at("set propagation of", destination)?;
    }
    Ok(sealed_later.then_some(tree))
}

fn open_point(
    rootfs: &Rootfs,
    destination: &Path,
    tree: &OwnedFd,
    kernel_view: bool,
) -> Result<OwnedFd, Failure> {
    check_proc(destination, kernel_view)?;
    let kind = point_kind(tree).at("inspect source of", destination)?;
    let point = rootfs.mount_point(destination, kind)?;
    if kernel_view {
        // A link here would let an image move what is protected by name.
        rootfs
            .open_without_links(destination)
            .at("mount over", destination)?;
    }
    Ok(point)
}

fn point_kind(tree: &OwnedFd) -> rustix::io::Result<PointKind> {
    let mode = fstat(tree)?.st_mode;
    Ok(match FileType::from_raw_mode(mode) {
        FileType::Directory => PointKind::Directory,
        _ => PointKind::File,
    })
}

/// A mount over a part of /proc could hide what the runtime relies on, so only
/// the files that engines are known to replace are accepted, as runc does.
fn check_proc(destination: &Path, kernel_view: bool) -> Result<(), Failure> {
    let Ok(below) = destination.strip_prefix("/proc") else {
        return Ok(());
    };
    if kernel_view && below.as_os_str().is_empty() {
        return Ok(());
    }
    if REPLACEABLE_IN_PROC
        .iter()
        .any(|file| below == Path::new(file))
    {
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "{} cannot be mounted because it is inside /proc",
        destination.display()
    )))
}

fn make_file_system(kind: &str, name: &str, options: &MountOptions) -> rustix::io::Result<OwnedFd> {
    let file_system = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&file_system, "source", name)?;
    for (key, value) in &options.parameters {
        match value {
            Some(value) => fsconfig_set_string(&file_system, key.as_str(), value.as_str())?,
            None => fsconfig_set_flag(&file_system, key.as_str())?,
        }
    }
    fsconfig_create(&file_system)?;
    fsmount(
        &file_system,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
}

fn apply_attributes(tree: &OwnedFd, options: &MountOptions) -> std::io::Result<()> {
    for (attributes, recursive) in [(options.own, false), (options.recursive, true)] {
        if attributes != MountAttributes::default() {
            set_mount_attributes(tree.as_fd(), attributes, recursive)?;
        }
    }
    Ok(())
}

/// Attaches a detached mount at an open point.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn attach_tree(tree: &OwnedFd, point: &OwnedFd) -> rustix::io::Result<()> {
    let both_are_open =
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", point, "", both_are_open)
}

/// Shows the open file or folder `from` at `point` too.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn bind(from: &OwnedFd, point: &OwnedFd, bind: Bind) -> rustix::io::Result<OwnedFd> {
    let below = match bind {
        Bind::One => OpenTreeFlags::empty(),
        Bind::Tree => OpenTreeFlags::AT_RECURSIVE,
    };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | below;
    let tree = open_tree(from, "", flags)?;
    attach_tree(&tree, point)?;
    Ok(tree)
}

/// An empty read-only folder, to hide another behind.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn empty_folder() -> rustix::io::Result<OwnedFd> {
    let file_system = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&file_system, "size", "0")?;
    fsconfig_create(&file_system)?;
    let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY;
    fsmount(&file_system, FsMountFlags::FSMOUNT_CLOEXEC, read_only)
}

/// Opens a path only to mount on it or to copy it.
pub(crate) const POINT: OFlags = OFlags::PATH;

const REPLACEABLE_IN_PROC: [&str; 10] = [
    "cpuinfo",
    "diskstats",
    "loadavg",
    "meminfo",
    "slabinfo",
    "stat",
    "swaps",
    "sys/crypto/fips_enabled",
    "sys/kernel/ns_last_pid",
    "uptime",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_itself_and_replaceable_files_may_be_mounted_over_and_nothing_else_in_it() {
        assert!(check_proc(Path::new("/proc"), true).is_ok());
        assert!(check_proc(Path::new("/proc/meminfo"), false).is_ok());
        assert!(check_proc(Path::new("/procfs"), false).is_ok());
        assert!(check_proc(Path::new("/proc"), false).is_err());
        let refused = check_proc(Path::new("/proc/self/attr"), false).unwrap_err();
        assert_eq!(
            refused.line(),
            "/proc/self/attr cannot be mounted because it is inside /proc"
        );
    }
}
