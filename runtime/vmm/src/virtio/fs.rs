//! Shared folders (virtio 1.3, section 5.11): the vhost-user front end.
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
use crate::lines::Lines;

/// High-priority queue and one request queue.
pub(crate) const QUEUE_SIZES: [u16; 2] = [64, 128];
const TAG_LEN: usize = 36;
const CONFIG_LEN: usize = TAG_LEN + size_of::<u32>();
const REQUEST_QUEUES: u32 = 1;
const SOCKET: u32 = 0;

/// The file server can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetUpError {
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
    lines: Lines,
    /// Queues the file server works on.
    started: Vec<usize>,
}

impl Fs {
    /// Takes up the connection to the file server behind `socket`.
    pub(crate) fn new(tag: &str, socket: OwnedFd, lines: Lines) -> Result<Self, SetUpError> {
        let mut config = [0; CONFIG_LEN];
        let (shown_tag, queues) = config.split_at_mut(TAG_LEN);
        match shown_tag.get_mut(..tag.len()) {
            Some(shown) => shown.copy_from_slice(tag.as_bytes()),
            None => return Err(SetUpError::Tag(tag.len())),
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
            lines,
            started: Vec::new(),
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
        for (index, queue) in active.queues.iter().enumerate() {
            let kick = self.lines.kicks.get(index).filter(|_| queue.ready());
            let addresses = ring_addresses(&active.mem, queue);
            let (Some(kick), Some(addresses)) = (kick, addresses) else {
                continue;
            };
            self.server.set_vring_num(index, queue.size())?;
            self.server.set_vring_addr(index, &addresses)?;
            self.server.set_vring_base(index, 0)?;
            self.server.set_vring_call(index, &self.lines.interrupt)?;
            self.server.set_vring_kick(index, kick)?;
            self.started.push(index);
        }
        self.enable_started(true)
    }

    fn enable_started(&mut self, enable: bool) -> Result<(), vhost::Error> {
        let negotiated = self.features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() != 0;
        for index in self.started.iter().filter(|_| negotiated) {
            self.server.set_vring_enable(*index, enable)?;
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<(), vhost::Error> {
        self.enable_started(false)?;
        for index in self.started.drain(..) {
            // Its answer says that the ring is no longer touched.
            self.server.get_vring_base(index)?;
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
        self.start(&active)
            .map_err(|error| gone(io::Error::other(error)))
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
        if self.stop().is_err() {
            // The connection is over: the next activation finds that out.
            self.started.clear();
        }
    }

    fn is_offloaded(&self, _queue: u16) -> bool {
        true
    }
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
