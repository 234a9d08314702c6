//! From the spec to serving, step by step; called by `main` with one thread.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use caisson_jail::{CapabilitySet, Identities, Jail, inherited};
use vhost::vhost_user::Error::Disconnected;
use vhost_user_backend::VhostUserDaemon;
use virtiofsd::passthrough::PassthroughFs;
use virtiofsd::server::Server;
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

use super::backend::Backend;
use super::counted::Counted;
use super::names::Names;
use super::tree::{ServedTree, TreeError};
use super::worker::Worker;
use super::{diagnostics, options, syscalls};
use crate::spec::{self, FsSpec};

/// Why a server could not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The spec could not be read.
    #[error("read the spec")]
    ReadSpec(#[source] io::Error),
    /// The spec is wrong.
    #[error("spec")]
    Spec(#[from] spec::Error),
    /// The process could not be confined.
    #[error("jail")]
    Jail(#[from] caisson_jail::Error),
    /// The served tree could not be assembled.
    #[error("served tree")]
    Tree(#[from] TreeError),
    /// The file system could not be set up.
    #[error("file system")]
    FileSystem(#[source] io::Error),
    /// The limit of system calls could not be set.
    #[error("system call filter")]
    Filter(#[from] caisson_jail::syscalls::Error),
    /// The connection to the machine failed other than by its end.
    #[error("vhost-user: {0}")]
    VhostUser(vhost_user_backend::Error),
}

/// Serves as the spec on descriptor 3 has it, until the front end disconnects.
///
/// # Errors
/// See [`Error`].
pub fn run() -> Result<(), Error> {
    diagnostics::to_standard_error();
    let spec = read_spec()?;
    let socket = inherited(spec.socket_fd)?;
    let tree = ServedTree::take(&spec)?;
    let jail = Jail {
        descriptors: &spec.descriptors(),
        identities: identities(),
        capabilities: CAPABILITIES,
        open_files: options::open_files(spec.max_names),
    };
    let proc_self_fd = jail.enter_furnished(|root| tree.furnish(root))?;
    let names = Arc::new(Names::new(options::names(spec.max_names)));
    let config = options::config(spec.cache, proc_self_fd);
    let files = PassthroughFs::new(config).map_err(Error::FileSystem)?;
    // Before the first thread, so that all have it.
    syscalls::limit()?;
    let server = Server::new(Counted::new(files, Arc::clone(&names)));
    serve(Worker::new(server, names), socket)
}

fn read_spec() -> Result<FsSpec, Error> {
    let mut json = Vec::new();
    let spec = inherited(FsSpec::FD)?;
    File::from(spec)
        .read_to_end(&mut json)
        .map_err(Error::ReadSpec)?;
    Ok(FsSpec::parse(&json)?)
}

/// What passing through ownership, modes and set-id bits takes, and no more:
/// inside the own user namespace, which owns no device and no other mount.
/// Not MKNOD, which counts in the initial user namespace only.
const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP);

/// With privilege to map them, all users and groups exist in the server, so that
/// ownership is equal on both sides; else only the caller's own do.
fn identities() -> Identities {
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
    let may_map_all =
        rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed));
    if may_map_all {
        Identities::All
    } else {
        Identities::Own
    }
}

fn serve(worker: Worker, socket: OwnedFd) -> Result<(), Error> {
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let backend = Arc::new(Backend::new(worker));
    let mut daemon =
        VhostUserDaemon::new("vhost-user".into(), backend, memory).map_err(Error::VhostUser)?;
    daemon
        .start(&mut UnixListener::from(socket).into())
        .map_err(Error::VhostUser)?;
    match daemon.wait() {
        Err(vhost_user_backend::Error::HandleRequest(Disconnected)) => Ok(()),
        result => result.map_err(Error::VhostUser),
    }
}
