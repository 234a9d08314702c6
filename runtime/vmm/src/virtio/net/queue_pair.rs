//! One pair of queues whose packets this process moves.
//!
//! Packets go between tap and guest memory in one system call each, and are never
//! copied or looked into here; what their headers claim is judged by the host's
//! kernel, which was written to take them from any program. `receive` has the way to
//! the guest.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use vm_memory::Permissions;
use vmm_sys_util::epoll::EventSet;

use super::frame::{HEADER_LEN, MAX_PACKET_LEN};
use super::receive::{Receiver, Stopped};
use crate::sys::Pieces;
use crate::virtio::chain::Chain;
use crate::virtio::device::{ActiveQueues, Error, Events};
use crate::virtio::turn::Turn;

/// Queues of a pair: 0 to the guest, 1 from it.
pub(super) const PER_PAIR: u16 = 2;
/// Most pieces that a packet of the guest is made of. Linux sends 64 KiB in at most 18.
const MAX_SENT_PIECES: usize = 64;

/// Two queues and the tap behind them.
#[derive(Debug)]
pub(super) struct QueuePair {
    tap: OwnedFd,
    /// While it is in use here.
    works: Option<Works>,
    /// The guest uses it, whoever moves its packets.
    pub(super) used: bool,
}

/// What a pair works with.
#[derive(Debug)]
struct Works {
    receiver: Receiver,
    /// The packet that is being sent.
    sent: Pieces,
}

/// Under which its tap is watched.
fn token(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl QueuePair {
    pub(super) fn new(tap: OwnedFd) -> Self {
        Self {
            tap,
            works: None,
            used: false,
        }
    }

    pub(super) fn tap(&self) -> BorrowedFd<'_> {
        self.tap.as_fd()
    }

    /// Begins to watch for packets as pair `number`.
    pub(super) fn start(
        &mut self,
        number: usize,
        active: &ActiveQueues,
        events: &mut dyn Events,
    ) -> Result<(), Error> {
        let watch_tap = events.watch(self.tap.as_fd(), EventSet::IN, token(number));
        watch_tap.map_err(host("watch a tap"))?;
        self.works = Some(Works {
            receiver: Receiver::new(active.features, active.mem.clone()),
            sent: Pieces::new(active.mem.clone()),
        });
        Ok(())
    }

    pub(super) fn stop(&mut self, events: &mut dyn Events) {
        self.works = None;
        // It is watched since `start`; there is nothing to do if it isn't.
        drop(events.unwatch(self.tap.as_fd()));
    }

    /// Its tap is ready.
    pub(super) fn ready(
        &mut self,
        number: usize,
        readiness: EventSet,
        active: &mut ActiveQueues,
        events: &mut dyn Events,
    ) -> Result<(), Error> {
        if readiness.contains(EventSet::ERROR) {
            return self.part_from_tap(events);
        }
        self.receive(number, active, events)
    }

    /// Sends what the guest has made available, for a turn.
    pub(super) fn send(
        &mut self,
        number: usize,
        active: &mut ActiveQueues,
        events: &mut dyn Events,
    ) -> Result<(), Error> {
        let Self { tap, works, .. } = self;
        let Some(works) = works.as_mut() else {
            return Ok(());
        };
        active.serve(queue_of(number) + 1, events, |_, chain, turn| {
            transmit(tap.as_fd(), &mut works.sent, chain, turn)?;
            Ok(0)
        })
    }

    /// Hands the guest what has arrived, and waits for packets or for buffers.
    pub(super) fn receive(
        &mut self,
        number: usize,
        active: &mut ActiveQueues,
        events: &mut dyn Events,
    ) -> Result<(), Error> {
        let Some(works) = self.works.as_mut() else {
            return Ok(());
        };
        let receiver = &mut works.receiver;
        let interest = match receiver.run(self.tap.as_fd(), active, queue_of(number))? {
            Stopped::TapEmpty => EventSet::IN,
            // Until the guest notifies of new ones.
            Stopped::NoBuffers => EventSet::empty(),
            Stopped::TapGone => return self.part_from_tap(events),
        };
        if receiver.gone || receiver.interest == interest {
            return Ok(());
        }
        receiver.interest = interest;
        events
            .rewatch(self.tap.as_fd(), interest, token(number))
            .map_err(host("watch a tap"))
    }

    /// Nothing comes from the tap any more; the interface is about to be unplugged.
    fn part_from_tap(&mut self, events: &mut dyn Events) -> Result<(), Error> {
        let Some(works) = self.works.as_mut() else {
            return Ok(());
        };
        if std::mem::replace(&mut works.receiver.gone, true) {
            return Ok(());
        }
        let unwatched = events.unwatch(self.tap.as_fd());
        unwatched.map_err(host("unwatch a tap"))
    }

    /// For what the tap is watched.
    #[cfg(test)]
    pub(super) fn interest(&self) -> Option<EventSet> {
        self.works.as_ref().map(|works| works.receiver.interest)
    }
}

/// The queue to the guest; that from it is the next.
fn queue_of(pair: usize) -> u16 {
    u16::try_from(pair).map_or(u16::MAX, |pair| pair * PER_PAIR)
}

/// Hands one packet to the tap. A packet that makes no sense, or that a tap which is
/// down doesn't take, is lost, as on a wire.
fn transmit(
    tap: BorrowedFd<'_>,
    packet: &mut Pieces,
    chain: &Chain<'_>,
    turn: &mut Turn,
) -> Result<(), Error> {
    packet.clear();
    let mut byte_len = 0;
    for descriptor in chain.readable() {
        let descriptor = descriptor?;
        let len = usize::try_from(descriptor.len()).unwrap_or(usize::MAX);
        byte_len += len;
        let taken = byte_len <= MAX_PACKET_LEN
            && packet.count() < MAX_SENT_PIECES
            && packet.push(descriptor.addr(), len, Permissions::Read);
        if !taken {
            return Ok(());
        }
    }
    if byte_len >= HEADER_LEN {
        packet.write_packet(tap).ok();
        turn.spend(byte_len);
    }
    Ok(())
}

fn host(part: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Host { part, source }
}
