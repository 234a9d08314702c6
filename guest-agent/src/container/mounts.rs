//! The mounts of a container, in the order of its configuration.
//!
//! Owns where a mount comes from and where it goes. Trees are detached, get their
//! flags, and are attached last, so that nothing half-made can be seen. Where the
//! container has a user namespace of its own, [`prepare`] opens sources with the
//! guest's privileges before it is entered; [`attach`] runs inside it.

use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use caisson_protocol::SHARE_PATH;
use oci_spec::runtime::Mount;
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, openat2},
    io::Errno,
    mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount},
};

use super::{
    copy_up::copy_up,
    file_system,
    mount_options::{self, Bind, MountOptions, READ_ONLY},
    rootfs::{PointKind, Rootfs},
};
use crate::{
    failure::{Attempt, Failure},
    sys::{MountAttributes, set_mount_attributes},
};

/// One mount with all that has to be opened beforehand.
#[derive(Debug)]
pub(crate) struct PreparedMount {
    destination: PathBuf,
    options: MountOptions,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// A detached mount, made or opened beforehand.
    Tree(OwnedFd, Bind),
    /// A tree of the guest, opened in its turn: kernels list mounts by age.
    Guest(PathBuf, Bind),
    /// A tree of the container itself, maybe made by an earlier mount.
    Container(PathBuf, Bind),
    /// Made inside the container's namespaces, whose view it shows.
    Fresh(FreshSource),
    /// What is mounted at the destination.
    Present,
}

/// A file system that the kernel makes.
#[derive(Debug)]
struct FreshSource {
    kind: String,
    /// What lists of mounts show as its source.
    name: String,
}

/// Properties of a container on which its mounts depend.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MountEnvironment<'a> {
    /// The guest's path of the container's root.
    pub(crate) root: &'a Path,
    /// It has a user namespace of its own, in which the guest's privileges are lost.
    pub(crate) own_users: bool,
}

/// Parses every mount, and opens what can't be opened later.
///
/// # Errors
/// The first mount that can't be.
pub(crate) fn prepare(
    mounts: &[Mount],
    environment: MountEnvironment<'_>,
) -> Result<Vec<PreparedMount>, Failure> {
    mounts
        .iter()
        .map(|mount| prepare_one(mount, environment))
        .collect()
}

fn prepare_one(mount: &Mount, environment: MountEnvironment<'_>) -> Result<PreparedMount, Failure> {
    let destination = mount.destination().clone();
    let mut options = mount_options::parse(mount.options().as_deref().unwrap_or_default());
    let kind = mount.typ().as_deref().unwrap_or_default();
    if kind == "bind" {
        options.bind.get_or_insert(Bind::One);
    }
    let named = mount.source().as_deref();
    let source = match (options.bind, kind) {
        _ if options.remount => Source::Present,
        (Some(bind), _) => {
            refuse_parameters(&destination, &options)?;
            bind_source(mount, bind, environment)?
        }
        (None, "cgroup" | "cgroup2") => Source::Fresh(FreshSource {
            kind: "cgroup2".to_owned(),
            name: "cgroup".to_owned(),
        }),
        // Inside a user namespace the kernel refuses the sysfs of a network that
        // isn't the namespace's own, and the virtual machine is the network.
        (None, "sysfs") if environment.own_users => {
            let made = file_system::make("sysfs", "sysfs", &options);
            Source::Tree(made.at("mount", &destination)?, Bind::One)
        }
        (None, "") => {
            return Err(Failure::Refused(format!(
                "mounts: {} has neither a type nor the option bind",
                destination.display()
            )));
        }
        (None, kind) => Source::Fresh(FreshSource {
            kind: kind.to_owned(),
            name: named.map_or_else(|| kind.to_owned(), |name| name.display().to_string()),
        }),
    };
    Ok(PreparedMount {
        destination,
        options,
        source,
    })
}

/// The kernel would ignore them silently.
fn refuse_parameters(destination: &Path, options: &MountOptions) -> Result<(), Failure> {
    let Some((name, _)) = options.parameters.first() else {
        return Ok(());
    };
    Err(Failure::Refused(format!(
        "mounts: {}: option {name:?} is of a file system, not of a bind mount; remove it",
        destination.display()
    )))
}

fn bind_source(
    mount: &Mount,
    bind: Bind,
    environment: MountEnvironment<'_>,
) -> Result<Source, Failure> {
    let Some(source) = mount.source() else {
        return Err(Failure::Refused(
            "mounts: a bind mount has no source".to_owned(),
        ));
    };
    match source.strip_prefix(environment.root) {
        Ok(inside) => Ok(Source::Container(Path::new("/").join(inside), bind)),
        Err(_) => guest_source(source, bind, environment),
    }
}

fn guest_source(
    path: &Path,
    bind: Bind,
    environment: MountEnvironment<'_>,
) -> Result<Source, Failure> {
    if environment.own_users {
        return Ok(Source::Tree(clone_tree(path, bind)?, bind));
    }
    Ok(Source::Guest(path.to_owned(), bind))
}

/// Triggers the automounts at `submounts`. Otherwise the first look-up would, and the
/// mount would have the attributes that its parent has by then.
pub(crate) fn trigger_automounts(submounts: &[String]) {
    let flags = POINT | OFlags::DIRECTORY | OFlags::CLOEXEC;
    for path in submounts {
        // A mount that is hidden, or gone, can't be seen in the container either.
        drop(rustix::fs::open(path, flags, Mode::empty()));
    }
}

/// A detached copy of the mount at `path`.
///
/// # Errors
/// The path is missing or can't be shown elsewhere.
pub(crate) fn clone_tree(path: &Path, bind: Bind) -> Result<OwnedFd, Failure> {
    let tree = if path.starts_with(SHARE_PATH) {
        open_shared(path).and_then(|opened| clone_opened(&opened, bind))
    } else {
        open_tree(CWD, path, clone_flags(bind))
    };
    tree.at("open mount source", path)
}

/// A part of a share may be written to by other containers: no link in it leads out.
pub(super) fn open_shared(path: &Path) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = POINT | OFlags::CLOEXEC;
    // What is opened as a directory is mounted first, if the share announces a mount.
    match openat2(CWD, path, flags | OFlags::DIRECTORY, Mode::empty(), resolve) {
        Err(Errno::NOTDIR) => openat2(CWD, path, flags, Mode::empty(), resolve),
        opened => opened,
    }
}

fn clone_flags(bind: Bind) -> OpenTreeFlags {
    let below = match bind {
        Bind::One => OpenTreeFlags::empty(),
        Bind::Tree => OpenTreeFlags::AT_RECURSIVE,
    };
    OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | below
}

/// Attaches prepared mounts below the root, in order. Returns the
/// mounts that become read-only by [`seal`], as they are written to before.
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
        make_read_only(tree.as_fd()).step("make /dev read-only")?;
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
    let (tree, point) = match mount.source {
        Source::Present => {
            remount(rootfs, destination, &options)?;
            return Ok(None);
        }
        Source::Fresh(source) => make_fresh(rootfs, destination, &source, &mut options)?,
        Source::Tree(tree, bind) => {
            let (tree, point) = at_point(rootfs, destination, tree)?;
            let tree = cloned_after_attach(&tree, bind, &point).at("mount", destination)?;
            (tree, point)
        }
        Source::Guest(path, bind) => at_point(rootfs, destination, clone_tree(&path, bind)?)?,
        Source::Container(path, bind) => {
            let source = rootfs.open(&path, POINT).at("open mount source", &path)?;
            let tree = clone_opened(&source, bind).at("open mount source", &path)?;
            at_point(rootfs, destination, tree)?
        }
    };
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
    set_propagation(&tree, &options).at("set propagation of", destination)?;
    Ok(sealed_later.then_some(tree))
}

/// A new file system and its place, which decides the mode of a tmpfs.
fn make_fresh(
    rootfs: &Rootfs,
    destination: &Path,
    source: &FreshSource,
    options: &mut MountOptions,
) -> Result<(OwnedFd, OwnedFd), Failure> {
    let FreshSource { kind, name } = source;
    let kernel_view = kind == "proc";
    check_proc(destination, kernel_view)?;
    if kernel_view || kind == "sysfs" {
        // By a link an image could move what is protected by name.
        rootfs.refuse_links(destination, kind)?;
    }
    let existed = rootfs.open(destination, POINT).is_ok();
    let point = rootfs.mount_point(destination, PointKind::Directory)?;
    let has_mode = options.parameters.iter().any(|(key, _)| key == "mode");
    if kind == "tmpfs" && existed && !has_mode {
        let mode = fstat(&point).at("inspect", destination)?.st_mode & 0o7777;
        let mode = ("mode".to_owned(), Some(format!("{mode:04o}")));
        options.parameters.push(mode);
    }
    let tree = file_system::make(kind, name, options).at("mount", destination)?;
    Ok((tree, point))
}

/// A copy of a detached mount, which is younger than what was mounted since. Only
/// what is attached can be copied.
fn cloned_after_attach(tree: &OwnedFd, bind: Bind, point: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    attach_tree(tree, point)?;
    let copy = clone_opened(tree, bind)?;
    let attached = format!("/proc/self/fd/{}", tree.as_raw_fd());
    unmount(attached, UnmountFlags::DETACH)?;
    Ok(copy)
}

fn at_point(
    rootfs: &Rootfs,
    destination: &Path,
    tree: OwnedFd,
) -> Result<(OwnedFd, OwnedFd), Failure> {
    let kernel_view = fstatfs(&tree).at("inspect source of", destination)?.f_type == PROC;
    check_proc(destination, kernel_view)?;
    let kind = point_kind(&tree).at("inspect source of", destination)?;
    let point = rootfs.mount_point(destination, kind)?;
    Ok((tree, point))
}

fn point_kind(tree: &OwnedFd) -> rustix::io::Result<PointKind> {
    let mode = fstat(tree)?.st_mode;
    Ok(match FileType::from_raw_mode(mode) {
        FileType::Directory => PointKind::Directory,
        _ => PointKind::File,
    })
}

/// Changes the attributes of the mount at `destination`, and the parameters of its file
/// system if the options have any.
fn remount(rootfs: &Rootfs, destination: &Path, options: &MountOptions) -> Result<(), Failure> {
    let mount = rootfs.open(destination, POINT).at("remount", destination)?;
    if options.bind.is_some() {
        refuse_parameters(destination, options)?;
    } else if !options.parameters.is_empty() || !options.flags.is_empty() {
        file_system::change(&mount, options).at("remount", destination)?;
    }
    set_mount_attributes(mount.as_fd(), options.replacing(), false).at("remount", destination)?;
    if options.recursive != MountAttributes::default() {
        set_mount_attributes(mount.as_fd(), options.recursive, true).at("remount", destination)?;
    }
    set_propagation(&mount, options).at("set propagation of", destination)
}

fn set_propagation(mount: &OwnedFd, options: &MountOptions) -> std::io::Result<()> {
    options.propagation.iter().try_for_each(|change| {
        let attributes = MountAttributes {
            propagation: change.kind,
            ..Default::default()
        };
        set_mount_attributes(mount.as_fd(), attributes, change.recursive)
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

/// Bind-mounts the open file or directory `from` at `point`.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn bind(from: &OwnedFd, point: &OwnedFd, bind: Bind) -> rustix::io::Result<OwnedFd> {
    let tree = clone_opened(from, bind)?;
    attach_tree(&tree, point)?;
    Ok(tree)
}

fn clone_opened(from: &OwnedFd, bind: Bind) -> rustix::io::Result<OwnedFd> {
    open_tree(from, "", clone_flags(bind) | OpenTreeFlags::AT_EMPTY_PATH)
}

/// Opens a path only to mount on it or to copy it.
pub(crate) const POINT: OFlags = OFlags::PATH;
/// `PROC_SUPER_MAGIC` of linux/magic.h.
const PROC: rustix::fs::FsWord = 0x9fa0;

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
