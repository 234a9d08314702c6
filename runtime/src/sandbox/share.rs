//! What of the host the guest may see: detached mounts, served by `caisson-fs`.
//!
//! Owns the cutting-out and the start of the file server. The mounts live only
//! in the server's own mount namespace, so nothing is left when it dies.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use caisson_jail::Error::Refused;
use caisson_jail::detached::{self, Tree, detach, map_ids};
use nix::libc;
use serde::Serialize;

use super::error::Error;
use super::program::{Program, Running};
use super::socket;
use crate::installation::FileCache;
use crate::plan::{Access, IdMaps, Share};
use crate::sys;

/// What `caisson-fs` reads from its descriptor 3.
#[derive(Debug, Serialize)]
struct ServerSpec {
    socket_fd: i32,
    shares: Vec<SharedTree>,
    cache: FileCache,
}

#[derive(Debug, Serialize)]
struct SharedTree {
    fd: i32,
    path: std::path::PathBuf,
    is_dir: bool,
    read_only: bool,
}

/// Starts the file server for `shares`; the answer's stream is the front end's.
pub(crate) fn serve(
    program: std::path::PathBuf,
    folder: &Path,
    shares: &[Share],
    cache: FileCache,
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
        cache,
    })?;
    Ok((server, front_end))
}

/// The mount of `share`, and whether it is a folder.
pub(crate) fn cut_out(share: &Share) -> Result<(OwnedFd, bool), Error> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Share {
        path: share.source.clone(),
        source,
    };
    let source = share
        .source
        .canonicalize()
        .map_err(|err| failed(err.into()))?;
    let access = match share.access {
        Access::AsMounted => detached::Access::AsMounted,
        Access::ReadOnlyItself => detached::Access::ReadOnlyItself,
        Access::ReadOnly => detached::Access::ReadOnly,
    };
    let mount = detach(&source, tree(share.recursive), access).map_err(|err| failed(err.into()))?;
    if let Some(maps) = &share.id_maps {
        map(&mount, maps, &source).map_err(failed)?;
    }
    Ok((mount, source.is_dir()))
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
