//! The vhost-user back end: what it offers, and when the worker gets a turn.
//!
//! The library has one too, which ends the process at the first request that it
//! can't answer, and holds a ring for as long as the guest fills it.
//!
//! Owns the features and the memory. Does not own requests, which are `worker`'s.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::VhostUserBackend;
use vhost_user_backend::bitmap::BitmapMmapRegion;
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vm_memory::{GuestAddressSpace as _, GuestMemoryAtomic};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{
    EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier,
};

use super::request::Memory;
use super::worker::{Ring, Worker};

/// The high-priority queue and one request queue (virtio 1.3, section 5.11.2).
const QUEUES: usize = 2;
/// The most descriptors in one ring.
const MAX_QUEUE_SIZE: usize = 1024;

/// The file system as a vhost-user device.
pub(super) struct Backend {
    worker: Mutex<Worker>,
    /// The one that the machine sent last.
    memory: Mutex<Option<GuestMemoryAtomic<Memory>>>,
}

impl Backend {
    /// A device whose requests `worker` serves.
    pub(super) const fn new(worker: Worker) -> Self {
        Self {
            worker: Mutex::new(worker),
            memory: Mutex::new(None),
        }
    }
}

impl VhostUserBackend for Backend {
    type Bitmap = BitmapMmapRegion;
    type Vring = Ring;

    fn num_queues(&self) -> usize {
        QUEUES
    }

    fn max_queue_size(&self) -> usize {
        MAX_QUEUE_SIZE
    }

    fn features(&self) -> u64 {
        (1 << VIRTIO_F_VERSION_1)
            | (1 << VIRTIO_RING_F_INDIRECT_DESC)
            | (1 << VIRTIO_RING_F_EVENT_IDX)
            | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
    }

    fn acked_features(&self, _features: u64) {}

    /// The rings know by themselves.
    fn set_event_idx(&self, _enabled: bool) {}

    fn update_memory(&self, memory: GuestMemoryAtomic<Memory>) -> io::Result<()> {
        *lock(&self.memory) = Some(memory);
        Ok(())
    }

    fn handle_event(
        &self,
        _queue: u16,
        _events: EventSet,
        rings: &[Ring],
        _thread: usize,
    ) -> io::Result<()> {
        let mut worker = lock(&self.worker);
        loop {
            // Again at every turn, so that the machine can change it meanwhile.
            let memory = lock(&self.memory).as_ref().map(|memory| memory.memory());
            let Some(memory) = memory else {
                return Ok(());
            };
            worker.use_memory(memory.into_inner());
            if !worker.turn(rings) {
                return Ok(());
            }
            // Whoever waits for a ring gets it now.
            thread::yield_now();
        }
    }

    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        // Without one the worker stays until the process ends, which follows.
        new_event_consumer_and_notifier(EventFlag::NONBLOCK).ok()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
