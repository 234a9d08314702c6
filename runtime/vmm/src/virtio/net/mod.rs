//! A network interface (virtio 1.3, section 5.1): pairs of queues over a tap.
//!
//! Owns what the guest sees of it and which pairs are in use. Their packets are moved
//! by this process (`pair`), or by the host's kernel (`kernel`); `offloads` has what
//! both sides agree on, `control` the guest's commands.

mod control;
mod kernel;
mod offloads;
mod pair;
mod receive;

use std::io;
use std::os::fd::OwnedFd;

use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_bindings::virtio_net::{VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ};
use vmm_sys_util::epoll::EventSet;

use self::kernel::Kernel;
pub(crate) use self::offloads::Offloads;
use self::pair::Pair;
use super::device::{ActiveQueues, Error, Events, VirtioDevice};
use crate::lines::Lines;
use crate::sys::use_tap_queue;

const QUEUE_LEN: u16 = 256;
const CONTROL_QUEUE_LEN: u16 = 16;
/// Queues of a pair: 0 to the guest, 1 from it.
const PER_PAIR: u16 = 2;

/// Where what matters is in `struct virtio_net_config`, and how long that is here.
const MAX_PAIRS_AT: usize = 8;
const CONFIG_LEN: usize = 10;

/// An interface can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetUpError {
    /// It needs one, and as many of /dev/vhost-net where that serves it.
    #[error("the request has {0} descriptors")]
    Descriptors(usize),
    /// It is none, or one without headers.
    #[error("set a tap's offloads")]
    Tap(#[source] io::Error),
    /// The host's kernel doesn't serve it.
    #[error("have the host's kernel serve the interface")]
    Kernel(#[source] vhost::Error),
    /// Its kernel is too old.
    #[error("the host's vhost-net lacks features that are needed ({0:#x})")]
    Features(u64),
}

/// Who moves packets.
#[derive(Debug)]
pub(crate) enum Mover {
    /// This process.
    Own,
    /// The host's kernel, through these of /dev/vhost-net, wired to these lines.
    Kernel(Vec<OwnedFd>, Lines),
}

/// By what packets get to their tap.
#[derive(Debug)]
pub(crate) struct Means {
    pub(crate) mover: Mover,
    /// What the tap can do with them.
    pub(crate) offloads: Offloads,
}

/// The network device.
#[derive(Debug)]
pub(crate) struct Net {
    config: [u8; CONFIG_LEN],
    queue_sizes: Vec<u16>,
    offloads: Offloads,
    pairs: Vec<Pair>,
    kernel: Option<Kernel>,
    active: Option<ActiveQueues>,
}

impl Net {
    /// An interface with the address `mac` and a pair of queues for each of `taps`,
    /// which are nonblocking and have headers of `pair::HEADER_LEN` bytes.
    pub(crate) fn new(taps: Vec<OwnedFd>, mac: [u8; 6], mover: Mover) -> Result<Self, SetUpError> {
        let first = taps.first().ok_or(SetUpError::Descriptors(0))?;
        let offloads = Offloads::of_tap(first).map_err(SetUpError::Tap)?;
        Self::with_offloads(taps, mac, Means { mover, offloads })
    }

    /// As `new`, over anything that keeps packets apart and has these offloads.
    pub(crate) fn with_offloads(
        taps: Vec<OwnedFd>,
        mac: [u8; 6],
        means: Means,
    ) -> Result<Self, SetUpError> {
        let Means { mover, offloads } = means;
        let count = u16::try_from(taps.len()).unwrap_or(u16::MAX);
        let kernel = match mover {
            Mover::Own => None,
            Mover::Kernel(vhosts, _) if vhosts.len() != taps.len() => {
                return Err(SetUpError::Descriptors(taps.len() + vhosts.len()));
            }
            Mover::Kernel(vhosts, lines) => Some(Kernel::new(vhosts, lines)?),
        };
        let pairs = taps.into_iter().map(Pair::new).collect();
        let mut queue_sizes = vec![QUEUE_LEN; usize::from(count * PER_PAIR)];
        if count > 1 {
            queue_sizes.push(CONTROL_QUEUE_LEN);
        }
        Ok(Self {
            config: config(mac, count),
            queue_sizes,
            offloads,
            pairs,
            kernel,
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
            kernel,
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
            match (kernel.as_mut(), wanted) {
                (None, true) => {
                    pair.start(number, active, events)?;
                    // What the guest has said before is not said again.
                    pair.send(number, active, events)?;
                    pair.receive(number, active, events)?;
                }
                (None, false) => pair.stop(events),
                (Some(kernel), true) => kernel.start(number, pair.tap(), active)?,
                (Some(kernel), false) => kernel.stop(number),
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
fn used(pairs: &[Pair]) -> impl Iterator<Item = (usize, &Pair)> {
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
        match &self.kernel {
            Some(kernel) => kernel.possible(features),
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
                match self.kernel.as_mut() {
                    Some(kernel) => kernel.stop(number),
                    None => pair.stop(events),
                }
            }
        }
        if let Some(kernel) = self.kernel.as_mut() {
            kernel.forget();
        }
        self.active = None;
    }

    fn pause(&mut self) -> Result<(), Error> {
        if let Some(kernel) = self.kernel.as_mut() {
            for (number, _) in used(&self.pairs) {
                kernel.stop(number);
            }
        }
        Ok(())
    }

    fn resume(&mut self) -> Result<(), Error> {
        if let (Some(kernel), Some(active)) = (self.kernel.as_mut(), self.active.as_ref()) {
            for (number, pair) in used(&self.pairs) {
                kernel.start(number, pair.tap(), active)?;
            }
        }
        Ok(())
    }

    fn is_offloaded(&self, queue: u16) -> bool {
        self.kernel.is_some() && !self.is_control(queue)
    }
}

#[cfg(test)]
#[path = "net_test.rs"]
mod tests;
