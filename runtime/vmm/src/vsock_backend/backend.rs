//! The device between the muxer and the rings that the front end shares.
//!
//! Owns what vhost-user asks of a back end. Which thread calls is the library's
//! business; all of them hold the one lock.

use std::io;
use std::os::fd::OwnedFd;

use vhost::vhost_user::VhostUserVirtioFeatures;
use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost_user_backend::{ShutdownHandle, VhostUserBackendMut, VringRwLock, VringT};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::QueueT;
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{
    EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier,
};

use crate::virtio::vsock::muxer::{Error as MuxerError, Muxer};
use crate::virtio::vsock::pump::{Error as PumpError, Rings, pump};

/// Queues the back end serves: rx and tx. The front end keeps the event queue.
const QUEUES: usize = 2;
/// Most entries of one queue (QEMU lets the guest choose up to so many).
const MAX_QUEUE_LEN: usize = 1024;
/// Name of the muxer's descriptor in the library's event loop; up to `QUEUES` are
/// taken.
pub(super) const MUXER_EVENT: u16 = 3;

/// One device.
pub(super) struct Backend {
    guest_cid: u64,
    /// Its descriptor has to be watched as `MUXER_EVENT`.
    pub(super) muxer: Muxer,
    mem: Option<GuestMemoryAtomic<GuestMemoryMmap>>,
    /// Ends the connection to the front end, and so the process.
    pub(super) shutdown: Option<ShutdownHandle>,
    /// Why it was ended from this side.
    pub(super) failure: Option<PumpError>,
}

impl Backend {
    /// A device without rings.
    pub(super) fn new(guest_cid: u32, channel: OwnedFd) -> io::Result<Self> {
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
