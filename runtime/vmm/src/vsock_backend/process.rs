//! The course of the `caisson-vsock` process: jail, wait for the one front end, serve
//! it, end with it or with the owner of the channel.
//!
//! The socket has to be a listening one, since `vhost-user-backend` accepts its front
//! end itself; a second connection is never accepted.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use caisson_jail::{CapabilitySet, Identities, Jail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};
use vhost::vhost_user::{Error as ProtocolError, Listener};
use vhost_user_backend::{Error as DaemonError, VhostUserDaemon};
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;

use super::backend::{Backend, MUXER_EVENT};
use super::syscalls;
use crate::spec::DescriptorNumber;
use crate::sys::{Inherited, TakeError};
use crate::virtio::vsock::muxer::{Error as MuxerError, MAX_CONNECTIONS};
use crate::virtio::vsock::pump::Error as PumpError;

/// Where the process finds its spec.
const SPEC_DESCRIPTOR: DescriptorNumber = 3;
/// One descriptor for each connection, and what the device itself has open.
const OPEN_FILES: u64 = MAX_CONNECTIONS as u64 + 64;

/// What the process is to do; JSON on descriptor 3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendSpec {
    /// Listening AF_UNIX socket to which the front end connects.
    pub socket_fd: DescriptorNumber,
    /// The device's end of the channel (see [`crate::spec::VsockSpec`]).
    pub channel_fd: DescriptorNumber,
    /// The guest's address.
    pub guest_cid: u32,
}

/// Why the back end ended too early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The spec can't be read.
    #[error("read the spec")]
    ReadSpec(#[source] io::Error),
    /// The spec isn't one.
    #[error("understand the spec")]
    ParseSpec(#[from] serde_json::Error),
    /// A descriptor of the spec can't be used.
    #[error(transparent)]
    Descriptor(#[from] TakeError),
    /// The process can't be confined.
    #[error("enter the jail")]
    Jail(#[from] caisson_jail::Error),
    /// The system calls can't be limited.
    #[error("limit system calls")]
    Filter(#[from] caisson_jail::syscalls::Error),
    /// The device can't be set up.
    #[error("set up the vsock device")]
    SetUp(#[source] io::Error),
    /// The vhost-user protocol broke.
    #[error("talk to the front end: {0}")]
    Protocol(DaemonError),
    /// The device can't go on.
    #[error("serve the vsock device")]
    Device(#[from] PumpError),
}

/// Reads the spec and serves one front end until it or the owner goes away.
pub fn run() -> Result<(), Error> {
    let mut inherited = Inherited::default();
    let mut json = String::new();
    std::fs::File::from(inherited.take(SPEC_DESCRIPTOR)?)
        .read_to_string(&mut json)
        .map_err(Error::ReadSpec)?;
    let spec: BackendSpec = serde_json::from_str(&json)?;
    let jail = Jail {
        descriptors: &[spec.socket_fd, spec.channel_fd],
        identities: Identities::Unique,
        capabilities: CapabilitySet::empty(),
        open_files: OPEN_FILES,
    };
    jail.enter()?;
    // Before the first thread, so that all have it.
    syscalls::limit()?;
    let listener = UnixListener::from(inherited.take(spec.socket_fd)?);
    serve(listener, inherited.take(spec.channel_fd)?, spec.guest_cid)
}

/// Serves the first front end that connects to `listener`.
fn serve(listener: UnixListener, channel: OwnedFd, guest_cid: u32) -> Result<(), Error> {
    let backend = Backend::new(guest_cid, channel).map_err(Error::SetUp)?;
    let backend = Arc::new(Mutex::new(backend));
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let mut daemon = VhostUserDaemon::new("vhost-user".into(), Arc::clone(&backend), memory)
        .map_err(Error::Protocol)?;
    if !wait_for_front_end(&listener, &backend)? {
        return Ok(());
    }
    daemon
        .start(&mut Listener::from(listener))
        .map_err(Error::Protocol)?;

    lock(&backend).shutdown = daemon.shutdown_handle();
    let muxer_fd = lock(&backend).muxer.as_fd().as_raw_fd();
    for event_loop in daemon.get_epoll_handlers() {
        event_loop
            .register_listener(muxer_fd, EventSet::IN, MUXER_EVENT.into())
            .map_err(Error::SetUp)?;
    }
    let result = daemon.wait();
    match lock(&backend).failure.take() {
        Some(PumpError::Host(MuxerError::OwnerGone)) => Ok(()),
        Some(error) => Err(error.into()),
        None => expect_disconnect(result),
    }
}

/// Waits until somebody connects. False: the owner of the channel went away before.
fn wait_for_front_end(listener: &UnixListener, backend: &Mutex<Backend>) -> Result<bool, Error> {
    let mut backend = lock(backend);
    loop {
        let mut fds = [
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(backend.muxer.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut fds, PollTimeout::NONE).map_err(|errno| Error::SetUp(errno.into()))?;
        let [connected, host] = fds.map(|fd| fd.any().unwrap_or(false));
        if host {
            match backend.muxer.host_ready() {
                Err(MuxerError::OwnerGone) => return Ok(false),
                other => other.map_err(PumpError::from)?,
            }
        }
        if connected {
            return Ok(true);
        }
    }
}

/// A front end ends by closing its socket, at whatever point of the protocol.
fn expect_disconnect(result: Result<(), DaemonError>) -> Result<(), Error> {
    match result {
        Err(DaemonError::HandleRequest(
            ProtocolError::Disconnected | ProtocolError::PartialMessage,
        )) => Ok(()),
        other => other.map_err(Error::Protocol),
    }
}

fn lock(backend: &Mutex<Backend>) -> MutexGuard<'_, Backend> {
    backend.lock().unwrap_or_else(PoisonError::into_inner)
}
