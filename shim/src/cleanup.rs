//! The `delete` action: puts away what a server has left that is gone.
//!
//! Owns what belongs to one container: its owner with the machine, its cgroup and
//! record, the mounts in its bundle, the server's socket.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use caisson::container::{self, Container, Error as LibraryError};
use caisson::log::Log;
use caisson::owner::KILLED;
use caisson::store::{self, Store};
use protobuf::Message;

use crate::arguments::Arguments;
use crate::process::Exit;
use crate::{place, rootfs, task};

/// Why something may be left.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The library's side.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The state folder.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The answer can't be given.
    #[error("print the answer")]
    Answer(#[source] io::Error),
}

/// Carries the action out and prints a `DeleteResponse`.
pub(crate) fn delete(arguments: &Arguments) -> Result<(), Error> {
    let store = Store::new(&place::state_folder(&arguments.namespace))?;
    let pid = end(&store, &arguments.id)?;
    let bundle = arguments
        .bundle
        .clone()
        .unwrap_or_else(|| PathBuf::from("."));
    rootfs::unmount_all(&bundle.join("rootfs"));
    remove_socket(&bundle);
    let exit = Exit {
        status: u32::from(KILLED),
        at: SystemTime::now(),
    };
    let answer = task::deleted(pid, exit).write_to_bytes();
    let answer = answer.map_err(io::Error::other).map_err(Error::Answer)?;
    io::stdout().write_all(&answer).map_err(Error::Answer)
}

/// Ends the container and forgets it; one that is not there is a success. The
/// answer is the pid that stood for it.
fn end(store: &Store, id: &str) -> Result<u32, Error> {
    let deleted = Container::find(store, id).and_then(|container| {
        container.delete(true, &Log::default())?;
        Ok(container.record().pid.unsigned_abs())
    });
    match deleted {
        Ok(pid) => Ok(pid),
        Err(LibraryError::Store(store::Error::NotExist(_))) => {
            match container::remove_leftover(store, id) {
                Ok(()) | Err(LibraryError::Store(store::Error::NotExist(_))) => Ok(0),
                Err(err) => Err(err.into()),
            }
        }
        Err(err) => Err(err.into()),
    }
}

/// A socket that somebody answers belongs to a server that lives.
fn remove_socket(bundle: &Path) {
    let address = std::fs::read_to_string(bundle.join("address")).unwrap_or_default();
    let Some(path) = address.strip_prefix("unix://") else {
        return;
    };
    if std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path).ok();
    }
}
