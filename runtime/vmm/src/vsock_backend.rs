//! The vsock device as a vhost-user back end: what `caisson-vsock` runs for QEMU.
//!
//! Owns the process's spec and its course: wait for the one front end, serve it, end
//! with it or with the owner of the channel. The device itself is [`crate::virtio::vsock`].
//!
//! The socket has to be a listening one, since `vhost-user-backend` accepts its front
//! end itself; a second connection is never accepted.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};
use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost::vhost_user::{Error as ProtocolError, Listener, VhostUserVirtioFeatures};
use vhost_user_backend::{
    Error as DaemonError, ShutdownHandle, VhostUserBackendMut, VhostUserDaemon, VringRwLock, VringT,
};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::QueueT;
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{
    EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier,
};

use crate::spec::DescriptorNumber;
use crate::sys::{Inherited, TakeError};
use crate::virtio::vsock::muxer::{Error as MuxerError, Muxer};
use crate::virtio::vsock::pump::{Error as PumpError, Rings, pump};

/// Where the process finds its spec.
const SPEC_DESCRIPTOR: DescriptorNumber = 3;
/// Queues the back end serves: rx and tx. The front end keeps the event queue.
const QUEUES: usize = 2;
/// Most entries of one queue (QEMU lets the guest choose up to so many).
const MAX_QUEUE_LEN: usize = 1024;
/// Name of the muxer's descriptor in the event loop; up to `QUEUES` are taken.
const MUXER_EVENT: u16 = 3;

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

    let muxer = {
        let mut backend = lock(&backend);
        backend.shutdown = daemon.shutdown_handle();
        backend.muxer.as_fd().as_raw_fd()
    };
    for event_loop in daemon.get_epoll_handlers() {
        event_loop
            .register_listener(muxer, EventSet::IN, MUXER_EVENT.into())
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

/// The device between the muxer and the rings that the front end shares.
struct Backend {
    guest_cid: u64,
    muxer: Muxer,
    mem: Option<GuestMemoryAtomic<GuestMemoryMmap>>,
    /// Ends the connection to the front end, and so the process.
    shutdown: Option<ShutdownHandle>,
    /// Why it was ended from this side.
    failure: Option<PumpError>,
}

impl Backend {
    fn new(guest_cid: u32, channel: OwnedFd) -> io::Result<Self> {
        let guest_cid = u64::from(guest_cid);
        let muxer = Muxer::new(guest_cid, channel)?;
        Ok(Self {
            guest_cid,
            muxer,
            mem: None,
            shutdown: None,
            failure: None,
        })
    }

    fn serve(&mut self, event: u16, rings: [&VringRwLock; QUEUES]) -> Result<(), PumpError> {
        if event == MUXER_EVENT {
            self.muxer.host_ready()?;
        }
        let Some(mem) = &self.mem else { return Ok(()) };
        let [mut rx, mut tx] = rings.map(VringT::get_mut);
        let is_running = [&rx, &tx]
            .iter()
            .all(|ring| ring.is_enabled() && ring.get_queue().ready());
        if !is_running {
            return Ok(());
        }
        let signals = pump(
            &mut self.muxer,
            &mut Rings {
                mem: &mem.memory(),
                rx: rx.get_queue_mut(),
                tx: tx.get_queue_mut(),
            },
        )?;
        if signals.rx {
            rx.signal_used_queue().map_err(MuxerError::from)?;
        }
        if signals.tx {
            tx.signal_used_queue().map_err(MuxerError::from)?;
        }
        Ok(())
    }
}

impl VhostUserBackendMut for Backend {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        QUEUES
    }

    fn max_queue_size(&self) -> usize {
        MAX_QUEUE_LEN
    }

    fn features(&self) -> u64 {
        (1 << VIRTIO_F_VERSION_1)
            | (1 << VIRTIO_RING_F_EVENT_IDX)
            | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::CONFIG | VhostUserProtocolFeatures::MQ
    }

    /// The handler sets it in each queue.
    fn set_event_idx(&mut self, _enabled: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let config = self.guest_cid.to_le_bytes();
        let bytes = config.into_iter().skip(offset as usize);
        bytes.take(size as usize).collect()
    }

    fn update_memory(&mut self, mem: GuestMemoryAtomic<GuestMemoryMmap>) -> io::Result<()> {
        self.mem = Some(mem);
        Ok(())
    }

    /// The guest's driver lets go of the device, and so of every connection.
    fn stop_vring(&mut self, _queue: u32) -> io::Result<()> {
        self.muxer.clear();
        Ok(())
    }

    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::CLOEXEC).ok()
    }

    fn handle_event(
        &mut self,
        event: u16,
        _readiness: EventSet,
        rings: &[VringRwLock],
        _thread: usize,
    ) -> io::Result<()> {
        let [rx, tx] = rings else { return Ok(()) };
        let result = self.serve(event, [rx, tx]);
        if let Err(error) = result {
            self.failure.get_or_insert(error);
            if let Some(shutdown) = &self.shutdown {
                shutdown.shutdown();
            }
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }
}
