//! The `delete` action: the clean-up after a server that has died.
//!
//! Owns the removal of what belongs to a container, and to the others of its group if
//! their server is dead: owner with the machine, cgroup and record, the mounts in the
//! bundle, the server's socket.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use caisson::container::handle;
use caisson::container::handle::Error as LibraryError;
use caisson::container::store;
use caisson::container::store::Store;
use caisson::log::Log;
use caisson::owner::KILLED;
use protobuf::Message;

use crate::arguments::Arguments;
use crate::process::Exit;
use crate::{bootstrap, group, paths, rootfs, task};

/// Why something may be left.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The library's side.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The state directory.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The response can't be printed.
    #[error("print the response")]
    Print(#[source] io::Error),
}

/// Carries the action out and prints a `DeleteResponse`.
pub(crate) fn delete(arguments: &Arguments) -> Result<(), Error> {
    let store = Store::new(&paths::state_directory(&arguments.namespace))?;
    let pid = end(&store, &arguments.id)?;
    let bundle = arguments
        .bundle
        .clone()
        .unwrap_or_else(|| PathBuf::from("."));
    rootfs::unmount_all(&bundle.join("rootfs"));
    if !server_lives(&bundle) {
        end_members(&store, &group::of_bundle(&bundle, &arguments.id))?;
    }
    let exit = Exit {
        status: u32::from(KILLED),
        at: SystemTime::now(),
    };
    let response = task::deleted(pid, exit).write_to_bytes();
    let response = response.map_err(io::Error::other).map_err(Error::Print)?;
    io::stdout().write_all(&response).map_err(Error::Print)
}

/// Kills and deletes the container; one that doesn't exist is a success. Returns the pid
/// of its proxy process.
fn end(store: &Store, id: &str) -> Result<u32, Error> {
    match handle::delete(store, id, true, &Log::default()) {
        Ok(record) => Ok(record.pid.unsigned_abs()),
        Err(LibraryError::Store(store::Error::NotExist(_))) => Ok(0),
        Err(err) => Err(err.into()),
    }
}

/// Deletes the further containers of the group: from 2.0 on, containerd runs this action
/// for the first one alone.
fn end_members(store: &Store, group: &str) -> Result<(), Error> {
    for name in store.names()? {
        // A record that can't be read belongs to no group.
        let Ok(record) = store.entry(&name).and_then(|entry| entry.read()) else {
            continue;
        };
        let is_member = group::of(|key| record.annotations.get(key).map(String::as_str));
        if is_member == Some(group) && !record.owner_lives() {
            end(store, &record.id)?;
            rootfs::unmount_all(&record.bundle.join("rootfs"));
        }
    }
    Ok(())
}

/// Whether the server of the bundle accepts connections; else its socket is removed.
fn server_lives(bundle: &Path) -> bool {
    let address = std::fs::read_to_string(bundle.join("address")).unwrap_or_default();
    let Some(path) = address.strip_prefix("unix://") else {
        return false;
    };
    // A start of the same group may be creating its own socket there.
    let lock = bootstrap::lock_directory_of(Path::new(path)).ok();
    let lives = std::os::unix::net::UnixStream::connect(path).is_ok();
    if !lives {
        std::fs::remove_file(path).ok();
    }
    drop(lock);
    lives
}
