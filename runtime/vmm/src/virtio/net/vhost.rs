//! Pairs of queues whose packets the host's kernel moves: vhost-net.
//!
//! The kernel is given guest memory, rings and eventfds, of which one end is KVM, and
//! this process does nothing per packet. Rings and what is in them are then parsed by
//! the host's kernel.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use vhost::vhost_kern::VhostKernBackend;
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap};

use super::error::InterfaceError;
use super::queue_pair::PER_PAIR;
use crate::eventfds::Eventfds;
use crate::sys::set_vhost_backend;
use crate::virtio::device::{ActiveQueues, Error};

/// Features that the transport offers in any case.
const NEEDED: u64 = 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX;
/// Features that concern who moves packets; of all others the tap takes care.
const OF_MOVER: u64 = NEEDED | 1 << VIRTIO_NET_F_MRG_RXBUF;

/// One of /dev/vhost-net, which serves one pair.
#[derive(Debug)]
struct Vhost {
    descriptor: OwnedFd,
    /// Guest memory, while it is known.
    mem: Arc<GuestMemoryMmap>,
    /// Where its two rings are to go on.
    bases: [u16; PER_PAIR as usize],
}

impl AsRawFd for Vhost {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

impl VhostKernBackend for Vhost {
    type AS = Arc<GuestMemoryMmap>;

    fn mem(&self) -> &Self::AS {
        &self.mem
    }

    /// Rings are checked before a device is activated.
    fn is_valid(&self, _: &VringConfigData) -> bool {
        true
    }
}

/// The queue pairs of one interface that vhost-net serves.
#[derive(Debug)]
pub(super) struct VhostNet {
    vhosts: Vec<Vhost>,
    eventfds: Eventfds,
    /// What the kernel can do.
    features: u64,
}

impl VhostNet {
    /// Takes these of /dev/vhost-net into use, one for each pair, for a slot with
    /// `eventfds`.
    pub(super) fn new(vhosts: Vec<OwnedFd>, eventfds: Eventfds) -> Result<Self, InterfaceError> {
        let mut features = u64::MAX;
        let mut all = Vec::new();
        for descriptor in vhosts {
            let vhost = Vhost {
                descriptor,
                mem: Arc::new(GuestMemoryMmap::default()),
                bases: [0; PER_PAIR as usize],
            };
            vhost.set_owner().map_err(InterfaceError::VhostNet)?;
            features &= vhost.get_features().map_err(InterfaceError::VhostNet)?;
            all.push(vhost);
        }
        let missing = NEEDED & !features;
        if missing != 0 {
            return Err(InterfaceError::Features(missing));
        }
        Ok(Self {
            vhosts: all,
            eventfds,
            features,
        })
    }

    /// Those of `features` that can be had.
    pub(super) fn possible(&self, features: u64) -> u64 {
        features & (self.features | !OF_MOVER)
    }

    /// Hands the rings of pair `number` and its tap to the kernel.
    pub(super) fn start(
        &mut self,
        number: usize,
        tap: BorrowedFd<'_>,
        active: &ActiveQueues,
    ) -> Result<(), Error> {
        let Some(vhost) = self.vhosts.get_mut(number) else {
            return Ok(());
        };
        vhost.mem = Arc::new(active.mem.clone());
        let rings = number * usize::from(PER_PAIR)..(number + 1) * usize::from(PER_PAIR);
        let queues = active.queues.get(rings.clone()).unwrap_or_default();
        let kicks = self.eventfds.kicks.get(rings).unwrap_or_default();
        if kicks.len() != queues.len() || queues.is_empty() || !queues.iter().all(QueueT::ready) {
            let complaint = format!("pair {number} of queues is not set up");
            return Err(Error::Guest(complaint));
        }
        let refused = |error| Error::Guest(format!("vhost-net refuses pair {number}: {error}"));
        vhost
            .prepare(active)
            .and_then(|()| {
                for (index, (queue, kick)) in queues.iter().zip(kicks).enumerate() {
                    vhost.set_vring(index, queue)?;
                    vhost.set_vring_call(index, &self.eventfds.irqfd)?;
                    vhost.set_vring_kick(index, kick)?;
                }
                Ok(())
            })
            .map_err(refused)?;
        for index in 0..u32::from(PER_PAIR) {
            set_vhost_backend(vhost.descriptor.as_fd(), index, Some(tap))
                .map_err(|error| refused(vhost::Error::IOError(error)))?;
        }
        Ok(())
    }

    /// Takes pair `number` back: nothing of it is touched any more.
    pub(super) fn stop(&mut self, number: usize) {
        let Some(vhost) = self.vhosts.get_mut(number) else {
            return;
        };
        for index in 0..u32::from(PER_PAIR) {
            // Refused by one that was never started.
            set_vhost_backend(vhost.descriptor.as_fd(), index, None).ok();
        }
        for index in 0..usize::from(PER_PAIR) {
            let base = vhost.get_vring_base(index).unwrap_or(0);
            if let Some(kept) = vhost.bases.get_mut(index) {
                *kept = u16::try_from(base & 0xffff).unwrap_or(0);
            }
        }
    }

    /// The guest sets the device up anew: rings begin at their start.
    pub(super) fn forget(&mut self) {
        for vhost in &mut self.vhosts {
            vhost.bases = [0; PER_PAIR as usize];
        }
    }
}

impl Vhost {
    fn prepare(&self, active: &ActiveQueues) -> Result<(), vhost::Error> {
        self.set_features(active.features & OF_MOVER)?;
        let regions: Result<Vec<_>, _> = active
            .mem
            .iter()
            .map(VhostUserMemoryRegionInfo::from_guest_region)
            .collect();
        self.set_mem_table(&regions?)?;
        Ok(())
    }

    fn set_vring(&self, index: usize, queue: &Queue) -> Result<(), vhost::Error> {
        self.set_vring_num(index, queue.size())?;
        let addresses = VringConfigData {
            queue_max_size: queue.max_size(),
            queue_size: queue.size(),
            flags: 0,
            desc_table_addr: queue.desc_table(),
            used_ring_addr: queue.used_ring(),
            avail_ring_addr: queue.avail_ring(),
            log_addr: None,
        };
        self.set_vring_addr(index, &addresses)?;
        self.set_vring_base(index, self.bases.get(index).copied().unwrap_or(0))
    }
}
