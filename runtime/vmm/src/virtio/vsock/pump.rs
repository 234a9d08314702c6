//! Between the muxer and the two virtqueues that carry packets.
//!
//! Owns the order of work and when the guest is notified: everything there is to do is
//! done first, for a turn, and the guest is signalled once at the end.

use virtio_queue::{Error as QueueError, Queue, QueueT};
use vm_memory::GuestMemoryMmap;

use super::link::MAX_PAYLOAD_LEN;
use super::muxer::{Error as MuxerError, Muxer};
use super::packet::{HEADER_LEN, Header};
use crate::virtio::chain::{Chain, IndirectTables};
use crate::virtio::span::Span;
use crate::virtio::turn::Turn;

/// Chains that are taken from one queue before the other gets its turn.
const ROUND_LEN: usize = 32;

/// Why the packets stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A ring is not where or what it has to be.
    #[error("a virtqueue is broken")]
    Queue(#[from] QueueError),
    /// The host's side is gone.
    #[error(transparent)]
    Host(#[from] MuxerError),
}

/// Which queues have used buffers that the guest wants a notification of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Signals {
    /// The queue towards the guest.
    pub rx: bool,
    /// The queue from the guest.
    pub tx: bool,
}

/// The queues that carry packets, and the memory they are in.
#[derive(Debug)]
pub struct Rings<'a> {
    /// The guest's memory.
    pub mem: &'a GuestMemoryMmap,
    /// Empty buffers for packets to the guest.
    pub rx: &'a mut Queue,
    /// Packets of the guest.
    pub tx: &'a mut Queue,
}

/// Moves every packet that can be moved in a turn; makes the muxer ready again if that
/// wasn't all.
pub fn pump(muxer: &mut Muxer, rings: &mut Rings<'_>) -> Result<Signals, Error> {
    rings.rx.disable_notification(rings.mem)?;
    rings.tx.disable_notification(rings.mem)?;
    let (mut to, mut from) = (0, 0);
    let mut turn = Turn::new();
    loop {
        let moved_to = to_guest(muxer, rings, &mut turn)?;
        let moved_from = from_guest(muxer, rings, &mut turn)?;
        to += moved_to;
        from += moved_from;
        if moved_to + moved_from == 0 && !listen(muxer, rings)? {
            break;
        }
        if turn.is_over() {
            muxer.come_again().map_err(MuxerError::from)?;
            break;
        }
    }
    // Without EVENT_IDX a queue wants a notification even if nothing was used.
    Ok(Signals {
        rx: to > 0 && rings.rx.needs_notification(rings.mem)?,
        tx: from > 0 && rings.tx.needs_notification(rings.mem)?,
    })
}

/// Asks the guest for the kicks that matter. True: one of them would be late already.
fn listen(muxer: &Muxer, rings: &mut Rings<'_>) -> Result<bool, Error> {
    let has_packets = rings.tx.enable_notification(rings.mem)?;
    // New buffers are of no interest while there is nothing to put into them.
    let has_room = muxer.has_outgoing() && rings.rx.enable_notification(rings.mem)?;
    Ok(has_packets || has_room)
}

/// Fills buffers of the guest. Returns how many were used.
fn to_guest(muxer: &mut Muxer, rings: &mut Rings<'_>, turn: &mut Turn) -> Result<usize, Error> {
    let mut moved = 0;
    while moved < ROUND_LEN && !turn.is_over() && muxer.has_outgoing() {
        let Some(chain) = Chain::next_of(rings.rx, rings.mem, IndirectTables::Followed)? else {
            break;
        };
        turn.spend_chain();
        // A buffer that can't hold a packet goes back empty.
        let len = match Span::writable(rings.mem, &chain) {
            Ok(span) => fill(muxer, span),
            Err(_) => Some(0),
        };
        let Some(len) = len else {
            let unused = rings.rx.next_avail().wrapping_sub(1);
            rings.rx.set_next_avail(unused);
            break;
        };
        turn.spend(usize::try_from(len).unwrap_or(usize::MAX));
        rings.rx.add_used(rings.mem, chain.head_index(), len)?;
        moved += 1;
    }
    Ok(moved)
}

/// Puts the next packet into `span`. Returns its length, `None` if there was no packet.
fn fill(muxer: &mut Muxer, mut span: Span<'_>) -> Option<u32> {
    let Some(front) = span.split_front(HEADER_LEN) else {
        return Some(0);
    };
    let header = muxer.next(span.slices())?;
    front.copy_from(&header.to_bytes());
    let front_len = u32::try_from(front.byte_len()).ok()?;
    Some(front_len.saturating_add(header.len))
}

/// Takes packets of the guest. Returns how many there were.
fn from_guest(muxer: &mut Muxer, rings: &mut Rings<'_>, turn: &mut Turn) -> Result<usize, Error> {
    let mut moved = 0;
    while moved < ROUND_LEN && !turn.is_over() {
        let Some(chain) = Chain::next_of(rings.tx, rings.mem, IndirectTables::Followed)? else {
            break;
        };
        turn.spend_chain();
        // What isn't a chain is dropped, as what isn't a packet.
        if let Ok(span) = Span::readable(rings.mem, &chain) {
            turn.spend(span.byte_len().min(MAX_PAYLOAD_LEN));
            deliver(muxer, span);
        }
        rings.tx.add_used(rings.mem, chain.head_index(), 0)?;
        moved += 1;
    }
    Ok(moved)
}

/// Hands one packet over; what isn't a whole packet is dropped.
fn deliver(muxer: &mut Muxer, mut span: Span<'_>) {
    let Some(front) = span.split_front(HEADER_LEN) else {
        return;
    };
    let mut bytes = [0; HEADER_LEN];
    front.copy_to(&mut bytes);
    let header = Header::from_bytes(&bytes);
    let payload = usize::try_from(header.len)
        .ok()
        .and_then(|len| span.split_front(len));
    if let Some(payload) = payload {
        muxer.receive(&header, payload.slices());
    }
}

#[cfg(test)]
#[path = "pump_test.rs"]
mod tests;
