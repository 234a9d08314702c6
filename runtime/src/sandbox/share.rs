//! What of the host the guest may see: detached mounts, served by `caisson-fs`.
//!
//! Owns the cutting-out and the start of the file server. The mounts live only
//! in the server's own mount namespace, so nothing is left when it dies.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use caisson_jail::Error::Refused;
use caisson_jail::cover::with_covered;
use caisson_jail::detached::{self, Tree, detach, map_ids};
use nix::libc;
use rustix::fs::fstat;
use serde::Serialize;

use super::error::Error;
use super::mountinfo::{self, Mount};
use super::program::{Program, Running};
use super::socket;
use crate::installation::FileCache;
use crate::plan::{Access, IdMaps, Share, is_of_guest};
use crate::sys;

/// What `caisson-fs` reads from its descriptor 3.
#[derive(Debug, Serialize)]
struct ServerSpec {
    socket_fd: i32,
    shares: Vec<SharedTree>,
    cache: FileCache,
    max_names: u64,
}

/// How the shares are served.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Serving {
    pub(crate) cache: FileCache,
    /// How many names and open files the guest may hold.
    pub(crate) max_names: u64,
}

#[derive(Debug, Serialize)]
struct SharedTree {
    fd: i32,
    path: PathBuf,
    is_dir: bool,
    read_only: bool,
}

/// Starts the file server for `shares`; the answer's stream is the front end's.
pub(crate) fn serve(
    program: PathBuf,
    folder: &Path,
    shares: &[Share],
    serving: Serving,
) -> Result<(Running, UnixStream), Error> {
    let (listener, front_end) = socket::pair(folder)?;
    let mut program = Program::new(program);
    let socket_fd = program.pass(listener);
    let mut trees = Vec::with_capacity(shares.len());
    for share in shares {
        let (mount, is_dir) = cut_out(share)?;
        trees.push(SharedTree {
            fd: program.pass(mount),
            path: share.target.clone(),
            is_dir,
            read_only: share.access != Access::AsMounted,
        });
    }
    let server = program.spawn(&ServerSpec {
        socket_fd,
        shares: trees,
        cache: serving.cache,
        max_names: serving.max_names,
    })?;
    Ok((server, front_end))
}

/// The mount of `share`, and whether it is a folder. Nothing of the host's kernel is in
/// it: its mounts below the source are empty directories there.
pub(crate) fn cut_out(share: &Share) -> Result<(OwnedFd, bool), Error> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Share {
        path: share.source.clone(),
        source,
    };
    let io_failed = |err: io::Error| failed(err.into());
    let source = share.source.canonicalize().map_err(io_failed)?;
    let opened = open_place(&source).map_err(io_failed)?;
    let mounts = mountinfo::read().map_err(io_failed)?;
    let mount = mountinfo::mount_of(&opened, &mounts).map_err(io_failed)?;
    if is_of_guest(&source) || mount.is_some_and(Mount::is_of_kernel) {
        let kind = mount.map_or("a file system", |mount| mount.kind.as_str());
        return Err(failed(of_the_hosts_kernel(&source, kind).into()));
    }
    let covered = match share.recursive {
        true => mountinfo::of_kernel_below(&source, &mounts),
        false => Vec::new(),
    };
    let covered: Vec<_> = covered.into_iter().map(Path::to_owned).collect();
    let mount = detach_without(share, &source, &covered).map_err(|err| failed(err.into()))?;
    // Whoever may write to a directory above could have put a link there meanwhile.
    if !is_same_file(&mount, &opened).map_err(io_failed)? {
        return Err(failed("it was replaced while it was shared".into()));
    }
    if let Some(maps) = &share.id_maps {
        map(&mount, maps, &source).map_err(failed)?;
    }
    Ok((mount, source.is_dir()))
}

/// Opens what is there without a right to its contents.
fn open_place(path: &Path) -> io::Result<File> {
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    File::options().read(true).custom_flags(flags).open(path)
}

fn is_same_file(one: impl AsFd, other: impl AsFd) -> io::Result<bool> {
    let [one, other] = [fstat(one)?, fstat(other)?];
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

fn of_the_hosts_kernel(source: &Path, kind: &str) -> String {
    let source = source.display();
    format!(
        "it leads to {source}, which shows the host's kernel ({kind}); a source spelled /proc, /sys or /dev, or below, is the guest's own"
    )
}

fn detach_without(
    share: &Share,
    source: &Path,
    covered: &[PathBuf],
) -> Result<OwnedFd, caisson_jail::Error> {
    let access = match share.access {
        Access::AsMounted => detached::Access::AsMounted,
        Access::ReadOnlyItself => detached::Access::ReadOnlyItself,
        Access::ReadOnly => detached::Access::ReadOnly,
    };
    let cut = || detach(source, tree(share.recursive), access);
    if covered.is_empty() {
        return cut();
    }
    with_covered(covered, cut)
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
