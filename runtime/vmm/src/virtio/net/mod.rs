//! A network interface (virtio 1.3, section 5.1): one pair of queues over a tap.
//!
//! Packets go between tap and guest memory in one system call each, and are never
//! copied or looked into here; what their headers claim is judged by the host's
//! kernel, which was written to take them from any program. `receive` has the way to
//! the guest, `offloads` what both sides agree on.

mod offloads;
mod receive;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::eventfd::{EfdFlags, EventFd};
use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_queue::{QueueOwnedT, QueueT};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::EventSet;

use self::offloads::Offloads;
use self::receive::{Receiver, Stopped};
use super::chains::Chain;
use super::device::{ActiveQueues, Error, Events, VirtioDevice};
use super::vsock::span::Span;
use crate::sys::write_packet;

const RX: u16 = 0;
const TX: u16 = 1;
const QUEUE_SIZES: [u16; 2] = [256, 256];
/// Length of `struct virtio_net_hdr_v1`, which precedes every packet.
const HEADER_LEN: usize = 12;
/// The longest packet, its header included: 64 KiB before segmentation.
const MAX_PACKET_LEN: usize = HEADER_LEN + 14 + 65_536;
/// Packets sent before other devices have their turn.
const BATCH: usize = 128;

/// Tokens of what the device watches.
const TAP: u32 = 0;
const MORE: u32 = 1;

/// A tap can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetUpError {
    /// It is none, or one without headers.
    #[error("set a tap's offloads")]
    Tap(#[source] io::Error),
    /// No eventfd.
    #[error("make an eventfd")]
    EventFd(#[source] io::Error),
}

/// The network device.
#[derive(Debug)]
pub(crate) struct Net {
    tap: OwnedFd,
    mac: [u8; 6],
    offloads: Offloads,
    /// Signalled when packets wait to be sent though the guest says nothing more.
    more: EventFd,
    active: Option<ActiveQueues>,
    receiver: Receiver,
}

impl Net {
    /// An interface with the address `mac`; `tap` is nonblocking and has headers of
    /// `HEADER_LEN` bytes.
    pub(crate) fn new(tap: OwnedFd, mac: [u8; 6]) -> Result<Self, SetUpError> {
        let offloads = Offloads::of_tap(tap.as_fd()).map_err(SetUpError::Tap)?;
        Ok(Self {
            tap,
            mac,
            offloads,
            more: wake().map_err(SetUpError::EventFd)?,
            active: None,
            receiver: Receiver::default(),
        })
    }

    /// Sends what the guest has made available, up to a batch.
    fn send(&mut self) -> Result<(), Error> {
        let Some(active) = self.active.as_mut() else {
            return Ok(());
        };
        let mem = &active.mem;
        let Some(ring) = active.queues.get_mut(usize::from(TX)) else {
            return Ok(());
        };
        let mut left = BATCH;
        loop {
            ring.disable_notification(mem)?;
            while left > 0
                && let Some(chain) = ring.iter(mem)?.next()
            {
                let head = chain.head_index();
                transmit(&self.tap, mem, chain);
                ring.add_used(mem, head, 0)?;
                left -= 1;
            }
            let more = ring.enable_notification(mem)?;
            if !more {
                break;
            }
            if left == 0 {
                let woken = self.more.write(1).map_err(io::Error::from);
                woken.map_err(host("signal an eventfd"))?;
                break;
            }
        }
        if ring.needs_notification(mem)? {
            active.interrupt.queue_used(TX);
        }
        Ok(())
    }

    /// Hands the guest what has arrived, and waits for packets or for buffers.
    fn receive(&mut self, events: &mut dyn Events) -> Result<(), Error> {
        let Some(active) = self.active.as_mut() else {
            return Ok(());
        };
        let stopped = self.receiver.run(self.tap.as_fd(), active)?;
        let interest = match stopped {
            Stopped::TapEmpty => EventSet::IN,
            // Until the guest says that there are new ones.
            Stopped::NoBuffers => EventSet::empty(),
            Stopped::TapGone => return self.part_from_tap(events),
        };
        if self.receiver.gone || self.receiver.interest == interest {
            return Ok(());
        }
        self.receiver.interest = interest;
        events
            .rewatch(self.tap.as_fd(), interest, TAP)
            .map_err(host("watch a tap"))
    }

    /// Nothing comes from the tap any more; the interface is about to be unplugged.
    fn part_from_tap(&mut self, events: &mut dyn Events) -> Result<(), Error> {
        if std::mem::replace(&mut self.receiver.gone, true) {
            return Ok(());
        }
        let unwatched = events.unwatch(self.tap.as_fd());
        unwatched.map_err(host("unwatch a tap"))
    }
}

/// Hands one packet to the tap. A packet that makes no sense, or that a tap which is
/// down doesn't take, is lost, as on a wire.
fn transmit(tap: &OwnedFd, mem: &GuestMemoryMmap, chain: Chain<'_>) {
    let Some(packet) = Span::readable(mem, chain) else {
        return;
    };
    if (HEADER_LEN..=MAX_PACKET_LEN).contains(&packet.byte_len()) {
        write_packet(tap.as_fd(), packet.slices()).ok();
    }
}

fn wake() -> io::Result<EventFd> {
    let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
    Ok(EventFd::from_value_and_flags(0, flags)?)
}

fn host(part: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Host { part, source }
}

impl VirtioDevice for Net {
    fn device_id(&self) -> u32 {
        VIRTIO_ID_NET
    }

    fn features(&self) -> u64 {
        self.offloads.features()
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn config(&self) -> &[u8] {
        &self.mac
    }

    fn activate(&mut self, active: ActiveQueues, events: &mut dyn Events) -> Result<(), Error> {
        // A tap whose namespace is gone refuses, and the interface goes with it.
        self.offloads.apply(self.tap.as_fd(), active.features).ok();
        self.receiver = Receiver::new(active.features);
        events
            .watch(self.tap.as_fd(), EventSet::IN, TAP)
            .map_err(host("watch a tap"))?;
        events
            .watch(self.more.as_fd(), EventSet::IN, MORE)
            .map_err(host("watch an eventfd"))?;
        self.active = Some(active);
        Ok(())
    }

    fn queue_ready(&mut self, queue: u16, events: &mut dyn Events) -> Result<(), Error> {
        match queue {
            RX => self.receive(events),
            _ => self.send(),
        }
    }

    fn ready(
        &mut self,
        token: u32,
        readiness: EventSet,
        events: &mut dyn Events,
    ) -> Result<(), Error> {
        if token == MORE {
            // Only empties the count.
            self.more.read().ok();
            return self.send();
        }
        if readiness.contains(EventSet::ERROR) {
            return self.part_from_tap(events);
        }
        self.receive(events)
    }

    fn reset(&mut self, events: &mut dyn Events) {
        if self.active.take().is_none() {
            return;
        }
        // They are watched since `activate`; there is nothing to do for one that isn't.
        drop(events.unwatch(self.tap.as_fd()));
        drop(events.unwatch(self.more.as_fd()));
    }
}

#[cfg(test)]
#[path = "net_test.rs"]
mod tests;
