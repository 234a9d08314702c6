//! A network interface (virtio 1.3, section 5.1): pairs of queues over a tap.
//!
//! Owns what the guest sees of it and which pairs are in use. Their packets are moved
//! by this process (`queue_pair`), or by the host's kernel (`vhost`); `offloads` has what
//! both sides agree on, `control` the guest's commands.

mod control;
mod error;
mod frame;
mod offloads;
mod queue_pair;
mod receive;
mod vhost;

use std::os::fd::OwnedFd;

use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_bindings::virtio_net::{VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ};
use vmm_sys_util::epoll::EventSet;

use self::error::InterfaceError;
pub(crate) use self::offloads::Offloads;
use self::queue_pair::{PER_PAIR, QueuePair};
use self::vhost::VhostNet;
use super::device::{ActiveQueues, Error, Events, VirtioDevice};
use crate::eventfds::Eventfds;
use crate::sys::use_tap_queue;

const QUEUE_LEN: u16 = 256;
const CONTROL_QUEUE_LEN: u16 = 16;

/// Where what matters is in `struct virtio_net_config`, and how long that is here.
const MAX_PAIRS_AT: usize = 8;
const CONFIG_LEN: usize = 10;

/// Who moves packets.
#[derive(Debug)]
pub(crate) enum Datapath {
    /// This process.
    Userspace,
    /// vhost-net, through these of /dev/vhost-net, wired to these eventfds.
    VhostNet(Vec<OwnedFd>, Eventfds),
}

/// What is behind an interface.
#[derive(Debug)]
pub(crate) struct Backing {
    pub(crate) datapath: Datapath,
    /// What the tap can do with them.
    pub(crate) offloads: Offloads,
}

/// The network device.
#[derive(Debug)]
pub(crate) struct Net {
    config: [u8; CONFIG_LEN],
    queue_sizes: Vec<u16>,
    offloads: Offloads,
    pairs: Vec<QueuePair>,
    vhost_net: Option<VhostNet>,
    active: Option<ActiveQueues>,
}

impl Net {
    /// An interface with the address `mac` and a pair of queues for each of `taps`,
    /// which are nonblocking and have headers of `frame::HEADER_LEN` bytes.
    pub(crate) fn new(
        taps: Vec<OwnedFd>,
        mac: [u8; 6],
        datapath: Datapath,
    ) -> Result<Self, InterfaceError> {
        let first = taps.first().ok_or(InterfaceError::Descriptors(0))?;
        let offloads = Offloads::of_tap(first).map_err(InterfaceError::Tap)?;
        Self::with_offloads(taps, mac, Backing { datapath, offloads })
    }

    /// As `new`, over anything that keeps packets apart and has these offloads.
    pub(crate) fn with_offloads(
        taps: Vec<OwnedFd>,
        mac: [u8; 6],
        means: Backing,
    ) -> Result<Self, InterfaceError> {
        let Backing { datapath, offloads } = means;
        let count = u16::try_from(taps.len()).unwrap_or(u16::MAX);
        let vhost_net = match datapath {
            Datapath::Userspace => None,
            Datapath::VhostNet(vhosts, _) if vhosts.len() != taps.len() => {
                return Err(InterfaceError::Descriptors(taps.len() + vhosts.len()));
            }
            Datapath::VhostNet(vhosts, eventfds) => Some(VhostNet::new(vhosts, eventfds)?),
        };
        let pairs = taps.into_iter().map(QueuePair::new).collect();
        let mut queue_sizes = vec![QUEUE_LEN; usize::from(count * PER_PAIR)];
        if count > 1 {
            queue_sizes.push(CONTROL_QUEUE_LEN);
        }
        Ok(Self {
            config: config(mac, count),
            queue_sizes,
            offloads,
            pairs,
            vhost_net,
            active: None,
        })
    }

    fn has_control(&self) -> bool {
        self.pairs.len() > 1
    }

    /// The queue of commands comes after all pairs, or after the first for a guest
    /// that knows of no others (virtio 1.3, section 5.1.2).
    fn is_control(&self, queue: u16) -> bool {
        let features = self.active.as_ref().map_or(0, |active| active.features);
        let last = self.queue_sizes.len().saturating_sub(1);
        let number = if features >> VIRTIO_NET_F_MQ & 1 == 1 {
            last
        } else {
            usize::from(PER_PAIR)
        };
        self.has_control() && usize::from(queue) == number
    }

    /// Uses the first `count` pairs, and no others.
    fn use_pairs(&mut self, count: usize, events: &mut dyn Events) -> Result<(), Error> {
        let several = self.has_control();
        let Self {
            pairs,
            vhost_net,
            active,
            ..
        } = self;
        let Some(active) = active.as_mut() else {
            return Ok(());
        };
        for (number, pair) in pairs.iter_mut().enumerate() {
            let wanted = number < count;
            if pair.used == wanted {
                continue;
            }
            // Before what the guest can make fail, so that a reset finds what to stop.
            pair.used = wanted;
            if wanted && several {
                // A tap that is gone refuses, and the interface goes with it.
                use_tap_queue(pair.tap(), true).ok();
            }
            match (vhost_net.as_mut(), wanted) {
                (None, true) => {
                    pair.start(number, active, events)?;
                    // Notifications that came before are not repeated.
                    pair.send(number, active, events)?;
                    pair.receive(number, active, events)?;
                }
                (None, false) => pair.stop(events),
                (Some(vhost_net), true) => vhost_net.start(number, pair.tap(), active)?,
                (Some(vhost_net), false) => vhost_net.stop(number),
            }
            if !wanted {
                use_tap_queue(pair.tap(), false).ok();
            }
        }
        Ok(())
    }

    fn serve_control(&mut self, queue: u16, events: &mut dyn Events) -> Result<(), Error> {
        let most = self.pairs.len();
        let Some(active) = self.active.as_mut() else {
            return Ok(());
        };
        let mut wanted = None;
        active.serve(queue, events, |mem, chain, _| {
            Ok(control::answer(mem, chain, most, &mut wanted))
        })?;
        match wanted {
            Some(count) => self.use_pairs(count, events),
            None => Ok(()),
        }
    }
}

/// The pairs that packets go through, and their numbers.
fn used(pairs: &[QueuePair]) -> impl Iterator<Item = (usize, &QueuePair)> {
    pairs.iter().enumerate().filter(|(_, pair)| pair.used)
}

fn config(mac: [u8; 6], pairs: u16) -> [u8; CONFIG_LEN] {
    let mut config = [0; CONFIG_LEN];
    let (start, most) = config.split_at_mut(MAX_PAIRS_AT);
    most.copy_from_slice(&pairs.to_le_bytes());
    start.iter_mut().zip(mac).for_each(|(at, byte)| *at = byte);
    config
}

impl VirtioDevice for Net {
    fn device_id(&self) -> u32 {
        VIRTIO_ID_NET
    }

    fn features(&self) -> u64 {
        let several = if self.has_control() {
            1 << VIRTIO_NET_F_MQ | 1 << VIRTIO_NET_F_CTRL_VQ
        } else {
            0
        };
        let features = self.offloads.features() | several;
        match &self.vhost_net {
            Some(vhost_net) => vhost_net.possible(features),
            None => features,
        }
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&mut self, active: ActiveQueues, events: &mut dyn Events) -> Result<(), Error> {
        if let Some(first) = self.pairs.first() {
            // A tap whose namespace is gone refuses, and the interface goes with it.
            self.offloads.apply(first.tap(), active.features).ok();
        }
        // Whoever knows of one pair must not have packets in others.
        for other in self.pairs.iter().skip(1) {
            use_tap_queue(other.tap(), false).ok();
        }
        self.active = Some(active);
        self.use_pairs(1, events)
    }

    fn queue_ready(&mut self, queue: u16, events: &mut dyn Events) -> Result<(), Error> {
        if self.is_control(queue) {
            return self.serve_control(queue, events);
        }
        let Some(active) = self.active.as_mut() else {
            return Ok(());
        };
        let number = usize::from(queue / PER_PAIR);
        match self.pairs.get_mut(number).filter(|pair| pair.used) {
            Some(pair) if queue.is_multiple_of(PER_PAIR) => pair.receive(number, active, events),
            Some(pair) => pair.send(number, active, events),
            None => Ok(()),
        }
    }

    fn ready(
        &mut self,
        token: u32,
        readiness: EventSet,
        events: &mut dyn Events,
    ) -> Result<(), Error> {
        let Some(active) = self.active.as_mut() else {
            return Ok(());
        };
        let number = usize::try_from(token).unwrap_or(usize::MAX);
        match self.pairs.get_mut(number).filter(|pair| pair.used) {
            Some(pair) => pair.ready(number, readiness, active, events),
            None => Ok(()),
        }
    }

    fn reset(&mut self, events: &mut dyn Events) {
        for (number, pair) in self.pairs.iter_mut().enumerate() {
            if std::mem::take(&mut pair.used) {
                match self.vhost_net.as_mut() {
                    Some(vhost_net) => vhost_net.stop(number),
                    None => pair.stop(events),
                }
            }
        }
        if let Some(vhost_net) = self.vhost_net.as_mut() {
            vhost_net.forget();
        }
        self.active = None;
    }

    fn pause(&mut self) -> Result<(), Error> {
        if let Some(vhost_net) = self.vhost_net.as_mut() {
            for (number, _) in used(&self.pairs) {
                vhost_net.stop(number);
            }
        }
        Ok(())
    }

    fn resume(&mut self) -> Result<(), Error> {
        if let (Some(vhost_net), Some(active)) = (self.vhost_net.as_mut(), self.active.as_ref()) {
            for (number, pair) in used(&self.pairs) {
                vhost_net.start(number, pair.tap(), active)?;
            }
        }
        Ok(())
    }

    fn is_offloaded(&self, queue: u16) -> bool {
        self.vhost_net.is_some() && !self.is_control(queue)
    }
}

#[cfg(test)]
#[path = "net_test.rs"]
mod tests;
