//! Shared directories (virtio 1.3, section 5.11): the vhost-user front end.
//!
//! Owns the connection to the file server and what the guest sees of the device.
//! Requests never pass through here: the file server is given guest memory, the
//! rings and two eventfds per queue, of which one end is KVM. When the file server
//! dies, so does the machine.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use vhost::vhost_user::message::VhostUserVirtioFeatures;
use vhost::vhost_user::{Frontend, VhostUserFrontend, VhostUserProtocolFeatures};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_bindings::virtio_ids::VIRTIO_ID_FS;
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;

use super::device::{ActiveQueues, Error, Events, VirtioDevice};
use crate::eventfds::Eventfds;

/// High-priority queue and one request queue.
pub(crate) const QUEUE_SIZES: [u16; 2] = [64, 128];
const TAG_LEN: usize = 36;
const CONFIG_LEN: usize = TAG_LEN + size_of::<u32>();
const REQUEST_QUEUES: u32 = 1;
const SOCKET: u32 = 0;

/// The file server can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The tag is too long for the configuration space.
    #[error("the tag has {0} bytes, more than {TAG_LEN}")]
    Tag(usize),
    /// The socket or the descriptors can't be prepared.
    #[error("prepare the connection to the file server")]
    Prepare(#[from] io::Error),
    /// The file server doesn't answer as it has to.
    #[error("negotiate with the file server")]
    Negotiate(#[from] vhost::Error),
}

/// The file system device.
pub(crate) struct Fs {
    server: Frontend,
    /// The same connection, to notice its end.
    socket: OwnedFd,
    features: u64,
    config: [u8; CONFIG_LEN],
    eventfds: Eventfds,
    /// Rings that the file server works on, or did before a pause.
    started: Vec<ServedRing>,
    active: Option<ActiveQueues>,
}

/// A ring in the hands of the file server.
#[derive(Debug, Clone, Copy)]
struct ServedRing {
    index: usize,
    /// The next entry of the available ring that is taken after the ring starts.
    base: u16,
}

impl Fs {
    /// Takes up the connection to the file server behind `socket`.
    pub(crate) fn new(
        tag: &str,
        socket: OwnedFd,
        eventfds: Eventfds,
    ) -> Result<Self, ConnectError> {
        let mut config = [0; CONFIG_LEN];
        let (shown_tag, queues) = config.split_at_mut(TAG_LEN);
        match shown_tag.get_mut(..tag.len()) {
            Some(shown) => shown.copy_from_slice(tag.as_bytes()),
            None => return Err(ConnectError::Tag(tag.len())),
        }
        queues.copy_from_slice(&REQUEST_QUEUES.to_le_bytes());

        let stream = UnixStream::from(socket.try_clone()?);
        let mut server = Frontend::from_stream(stream, QUEUE_SIZES.len() as u64);
        server.set_owner()?;
        let offered = server.get_features()?;
        let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        if offered & protocol != 0 {
            let wanted = VhostUserProtocolFeatures::REPLY_ACK;
            let possible = server.get_protocol_features()?;
            server.set_protocol_features(possible & wanted)?;
        }
        Ok(Self {
            server,
            socket,
            features: offered,
            config,
            eventfds,
            started: Vec::new(),
            active: None,
        })
    }

    /// Hands memory and queues to the file server (vhost-user, "Starting and stopping
    /// rings"). It fails later, by closing the connection, if it can't use them.
    fn start(&mut self, active: &ActiveQueues) -> Result<(), vhost::Error> {
        let protocol = self.features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        self.server.set_features(active.features | protocol)?;
        let regions: Result<Vec<_>, _> = active
            .mem
            .iter()
            .map(VhostUserMemoryRegionInfo::from_guest_region)
            .collect();
        self.server.set_mem_table(&regions?)?;
        let ready = active.queues.iter().map(QueueT::ready).enumerate();
        let rings = ready.filter(|(_, ready)| *ready);
        self.started = rings
            .map(|(index, _)| ServedRing { index, base: 0 })
            .collect();
        self.start_rings(active)
    }

    /// Has the file server work on the rings, each from its base on.
    fn start_rings(&mut self, active: &ActiveQueues) -> Result<(), vhost::Error> {
        for ServedRing { index, base } in self.started.iter().copied() {
            let (Some(kick), Some(queue)) =
                (self.eventfds.kicks.get(index), active.queues.get(index))
            else {
                continue;
            };
            let Some(addresses) = ring_addresses(&active.mem, queue) else {
                continue;
            };
            self.server.set_vring_num(index, queue.size())?;
            self.server.set_vring_addr(index, &addresses)?;
            self.server.set_vring_base(index, base)?;
            self.server.set_vring_call(index, &self.eventfds.irqfd)?;
            self.server.set_vring_kick(index, kick)?;
        }
        self.enable_started(true)
    }

    fn enable_started(&mut self, enable: bool) -> Result<(), vhost::Error> {
        let negotiated = self.features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() != 0;
        for ring in self.started.iter().filter(|_| negotiated) {
            self.server.set_vring_enable(ring.index, enable)?;
        }
        Ok(())
    }

    /// Takes the rings back: when this returns, the file server touches them no more.
    fn stop_rings(&mut self) -> Result<(), vhost::Error> {
        self.enable_started(false)?;
        for ring in &mut self.started {
            let base = self.server.get_vring_base(ring.index)?;
            ring.base = u16::try_from(base & 0xffff).unwrap_or(0);
        }
        Ok(())
    }
}

impl VirtioDevice for Fs {
    fn device_id(&self) -> u32 {
        VIRTIO_ID_FS
    }

    fn features(&self) -> u64 {
        self.features & !VhostUserVirtioFeatures::all().bits()
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&mut self, active: ActiveQueues, events: &mut dyn Events) -> Result<(), Error> {
        let watched = events.watch(self.socket.as_fd(), EventSet::READ_HANG_UP, SOCKET);
        watched.map_err(gone)?;
        let started = self.start(&active);
        self.active = Some(active);
        started.map_err(lost)
    }

    fn queue_ready(&mut self, _queue: u16, _events: &mut dyn Events) -> Result<(), Error> {
        Ok(())
    }

    fn ready(
        &mut self,
        _token: u32,
        _readiness: EventSet,
        _events: &mut dyn Events,
    ) -> Result<(), Error> {
        Err(gone(io::ErrorKind::ConnectionReset.into()))
    }

    fn reset(&mut self, events: &mut dyn Events) {
        let socket: BorrowedFd<'_> = self.socket.as_fd();
        // Not watched if activation failed.
        events.unwatch(socket).ok();
        // Without a connection the next activation fails.
        self.stop_rings().ok();
        self.started.clear();
        self.active = None;
    }

    fn pause(&mut self) -> Result<(), Error> {
        self.stop_rings().map_err(lost)
    }

    fn resume(&mut self) -> Result<(), Error> {
        let Some(active) = self.active.take() else {
            return Ok(());
        };
        let started = self.start_rings(&active);
        self.active = Some(active);
        started.map_err(lost)
    }

    fn is_offloaded(&self, _queue: u16) -> bool {
        true
    }
}

fn lost(error: vhost::Error) -> Error {
    gone(io::Error::other(error))
}

fn gone(source: io::Error) -> Error {
    Error::Host {
        part: "the file server is gone",
        source,
    }
}

/// Where the rings of `queue` are in this process; `None` if not in guest memory.
fn ring_addresses(mem: &GuestMemoryMmap, queue: &Queue) -> Option<VringConfigData> {
    let host = |address| {
        let pointer = mem.get_host_address(GuestAddress(address)).ok()?;
        Some(pointer as u64)
    };
    Some(VringConfigData {
        queue_max_size: queue.max_size(),
        queue_size: queue.size(),
        flags: 0,
        desc_table_addr: host(queue.desc_table())?,
        used_ring_addr: host(queue.used_ring())?,
        avail_ring_addr: host(queue.avail_ring())?,
        log_addr: None,
    })
}
