//! What of the host the guest may see: detached mounts, served by `caisson-fs`.
//!
//! Owns the cutting-out and the start of the file server. The mounts live only
//! in the server's own mount namespace, so nothing is left when it dies.

use std::fs::{self};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use caisson_fs::spec::{Cache, FsSpec, Share as ServedShare};
use caisson_jail::Error::Refused;
use caisson_jail::cover::with_covered;
use caisson_jail::detached::{self, Tree, detach, map_ids};
use nix::libc;

use crate::host::mountinfo;
use crate::host::mountinfo::Mount;
use crate::oci::plan::{Access, AccessTime, IdMaps, Overlay, Share, is_of_guest};
use crate::owner::{HostPlace, MountBelow, OfferedShare, PlaceInFileSystem};
use crate::process::program::{Program, Running};
use crate::process::step;
use crate::process::vhost_user_socket;
use crate::sys;
use crate::vm::error::Error;
use crate::vm::host_path::{is_same_file, of_the_hosts_kernel, open_place};
use crate::vm::overlay;
use crate::vm::served_shares::{Cut, Placement, Served};

/// How the shares are served.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Serving {
    pub(crate) cache: Cache,
    /// How many names and open files the guest may hold.
    pub(crate) max_names: u64,
}

/// A file server that runs.
pub(crate) struct Server {
    pub(crate) process: Running,
    /// The stream of the machine's end.
    pub(crate) front_end: UnixStream,
    pub(crate) served: Served,
    /// Where the container's shares have come to be.
    pub(crate) placement: Placement,
}

/// Starts the file server for the `shares` of the container `id`.
pub(crate) fn serve(
    program: PathBuf,
    directory: &Path,
    id: &str,
    shares: &[Share],
    serving: Serving,
) -> Result<Server, Error> {
    let (listener, front_end) = vhost_user_socket::pair(directory)?;
    let mut program = Program::new(program);
    let socket_fd = program.pass(listener);
    let cuts: Result<Vec<_>, _> = shares.iter().map(cut_out).collect();
    let mut served = Served::default();
    let placement = served.place(id, cuts?);
    let new = served
        .new_trees(&placement)
        .map_err(step("share a mount"))?;
    let trees = new.into_iter().map(|Cut { share, tree }| ServedShare {
        fd: program.pass(tree),
        path: share.path,
        is_dir: share.is_dir,
        read_only: share.place.access != Access::AsMounted,
    });
    let trees = trees.collect();
    let server = program.spawn(&FsSpec {
        socket_fd,
        shares: trees,
        cache: serving.cache,
        max_names: serving.max_names,
    })?;
    Ok(Server {
        process: server,
        front_end,
        served,
        placement,
    })
}

/// The mount of `share`. Nothing of the host's kernel is in it: its mounts below the
/// source are empty directories there.
pub(crate) fn cut_out(share: &Share) -> Result<Cut, Error> {
    if let Some(overlay) = &share.overlay {
        return cut_overlay(share, overlay);
    }
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Share {
        path: share.source.clone(),
        source,
    };
    let io_failed = |err: io::Error| failed(err.into());
    let source = share.source.canonicalize().map_err(io_failed)?;
    let opened = open_place(&source).map_err(io_failed)?;
    let mounts = mountinfo::read().map_err(io_failed)?;
    let source_mount = mountinfo::mount_of(&opened, &mounts).map_err(io_failed)?;
    if is_of_guest(&source) || source_mount.is_some_and(Mount::is_of_kernel) {
        let kind = source_mount.map_or("a file system", |mount| mount.kind.as_str());
        return Err(failed(of_the_hosts_kernel(&source, kind).into()));
    }
    let covered = match share.recursive {
        true => mountinfo::of_kernel_below(&source, &mounts),
        false => Vec::new(),
    };
    let covered: Vec<_> = covered.into_iter().map(Path::to_owned).collect();
    let tree = detach_without(share, &source, &covered).map_err(|err| failed(err.into()))?;
    // Whoever may write to a directory above could have put a link there meanwhile.
    if !is_same_file(&tree, &opened).map_err(io_failed)? {
        return Err(failed("it was replaced while it was shared".into()));
    }
    set_access_times(&tree, share, &source).map_err(|err| failed(err.into()))?;
    if let Some(maps) = &share.id_maps {
        map(&tree, maps, &source).map_err(failed)?;
    }
    let share = OfferedShare {
        path: share.target.clone(),
        is_dir: source.is_dir(),
        place: place(share, source, source_mount, &mounts),
    };
    Ok(Cut { share, tree })
}

/// What tells whether another share shows the same files.
fn place(share: &Share, source: PathBuf, mount: Option<&Mount>, mounts: &[Mount]) -> HostPlace {
    let in_file_system = mount.and_then(|mount| {
        let below = source.strip_prefix(&mount.point).ok()?;
        let is_all = below.as_os_str().is_empty();
        Some(PlaceInFileSystem {
            device: mount.device.clone(),
            // No slash after the path of a file.
            path: if is_all {
                mount.root.clone()
            } else {
                mount.root.join(below)
            },
        })
    });
    let seen = mounts.iter().filter(|_| share.recursive);
    let mut below: Vec<_> = seen
        .filter_map(|mount| {
            let path = mount.point.strip_prefix(&source).ok()?;
            (!path.as_os_str().is_empty()).then(|| MountBelow {
                path: path.to_owned(),
                device: mount.device.clone(),
                root: mount.root.clone(),
                options: mount.options.clone(),
            })
        })
        .collect();
    below.sort();
    HostPlace {
        source,
        in_file_system,
        access: share.access,
        id_maps: share.id_maps.clone(),
        has_mapped_source: mount.is_some_and(|mount| mount.maps_ids),
        below,
    }
}

/// Nothing else shows the files of an overlay that was just made.
fn cut_overlay(share: &Share, overlay: &Overlay) -> Result<Cut, Error> {
    let tree = overlay::make(overlay)?;
    let source = &share.source;
    let restricted = detached::restrict(&tree, jail_access(share.access), source)
        .and_then(|()| set_access_times(&tree, share, source));
    restricted.map_err(|err| Error::Share {
        path: source.clone(),
        source: err.into(),
    })?;
    let share = OfferedShare {
        path: share.target.clone(),
        is_dir: true,
        place: place(share, source.clone(), None, &[]),
    };
    Ok(Cut { share, tree })
}

fn set_access_times(
    tree: &OwnedFd,
    share: &Share,
    source: &Path,
) -> Result<(), caisson_jail::Error> {
    let options = [
        (Tree::One, share.access_times.itself),
        (Tree::Recursive, share.access_times.all),
    ];
    options.into_iter().try_for_each(|(reach, options)| {
        let kind = options.kind.map(|kind| match kind {
            AccessTime::Relative => detached::AccessTime::Relative,
            AccessTime::Never => detached::AccessTime::Never,
            AccessTime::Strict => detached::AccessTime::Strict,
        });
        let times = detached::AccessTimes {
            kind,
            directories: options.directories,
        };
        detached::set_access_times(tree, reach, times, source)
    })
}

fn detach_without(
    share: &Share,
    source: &Path,
    covered: &[PathBuf],
) -> Result<OwnedFd, caisson_jail::Error> {
    let access = jail_access(share.access);
    let cut = || detach(source, tree(share.recursive), access);
    if covered.is_empty() {
        return cut();
    }
    with_covered(covered, cut)
}

const fn jail_access(access: Access) -> detached::Access {
    match access {
        Access::AsMounted => detached::Access::AsMounted,
        Access::ReadOnlyItself => detached::Access::ReadOnlyItself,
        Access::ReadOnly => detached::Access::ReadOnly,
    }
}

const fn tree(recursive: bool) -> Tree {
    if recursive {
        Tree::Recursive
    } else {
        Tree::One
    }
}

fn map(
    mount: &OwnedFd,
    maps: &IdMaps,
    source: &Path,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let namespace = sys::user_namespace(|pid| {
        fs::write(format!("/proc/{pid}/uid_map"), &maps.uids)?;
        fs::write(format!("/proc/{pid}/gid_map"), &maps.gids)
    });
    let namespace =
        namespace.map_err(|err| format!("make a user namespace with its id mappings: {}", err))?;
    map_ids(mount, tree(maps.recursive), namespace.as_fd(), source).map_err(|err| match &err {
        Refused { source, .. } if source.raw_os_error() == Some(libc::EINVAL) => {
            "its file system knows no id-mapped mounts; remove the mappings, or use another".into()
        }
        _ => err.into(),
    })
}
