//! From the tap to the guest: buffers of the guest are gathered until the longest
//! packet fits, and one call fills them. Those that stayed empty are for the next.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;

use virtio_bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryMmap, Permissions};
use vmm_sys_util::epoll::EventSet;

use super::frame::{HEADER_LEN, MAX_PACKET_LEN};
use crate::sys::{MAX_PIECES, Pieces};
use crate::virtio::chain::{Chain, IndirectTables};
use crate::virtio::device::{ActiveQueues, Error};
use crate::virtio::turn::TURN_CHAINS;

/// Offset in the header of the number of buffers a packet goes over (u16, little endian).
const BUFFER_COUNT_AT: usize = 10;

/// Most packets of a turn.
const TURN_PACKETS: usize = TURN_CHAINS;
/// Most descriptors that are looked at in a turn: what so many of the longest packets
/// need in buffers of a page and a half, as Linux has them.
const TURN_DESCRIPTORS: usize = TURN_PACKETS * 64;

/// Why no more packets are handed over now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    /// None is there, or others have their turn: the tap becomes readable when to go on.
    TapEmpty,
    /// The guest has too few buffers: it notifies when to go on.
    NoBuffers,
    /// The tap, or its namespace, is no more.
    TapGone,
}

/// What is agreed with the guest about its buffers, those that no packet is in yet,
/// and what is waited for.
#[derive(Debug)]
pub(super) struct Receiver {
    /// A packet may go over several buffers.
    mergeable: bool,
    buffers: VecDeque<Buffer>,
    /// The memory of `buffers`, in the same order.
    pieces: Pieces,
    /// Bytes in `buffers`.
    byte_len: usize,
    /// How many more are looked at in this turn.
    descriptors_left: usize,
    /// For what the tap is watched.
    pub(super) interest: EventSet,
    /// The tap is watched no more.
    pub(super) gone: bool,
}

/// A buffer of the guest.
#[derive(Debug)]
struct Buffer {
    head: u16,
    byte_len: usize,
    /// How many pieces it consists of.
    pieces: usize,
    /// Where the two bytes of the count of buffers go.
    count_at: [GuestAddress; 2],
}

impl Receiver {
    /// For a guest with this memory that has acknowledged these features.
    pub(super) fn new(features: u64, mem: GuestMemoryMmap) -> Self {
        Self {
            mergeable: features >> VIRTIO_NET_F_MRG_RXBUF & 1 == 1,
            buffers: VecDeque::new(),
            pieces: Pieces::new(mem),
            byte_len: 0,
            descriptors_left: 0,
            interest: EventSet::IN,
            gone: false,
        }
    }

    /// Hands packets over until something has to be waited for.
    pub(super) fn run(
        &mut self,
        tap: BorrowedFd<'_>,
        active: &mut ActiveQueues,
        queue: u16,
    ) -> Result<Stopped, Error> {
        let mem = &active.mem;
        let Some(ring) = active.queues.get_mut(usize::from(queue)) else {
            return Ok(Stopped::NoBuffers);
        };
        let stopped = self.fill(tap, mem, ring)?;
        if ring.needs_notification(mem)? {
            active.interrupt.queue_used(queue);
        }
        Ok(stopped)
    }

    fn fill(
        &mut self,
        tap: BorrowedFd<'_>,
        mem: &GuestMemoryMmap,
        ring: &mut Queue,
    ) -> Result<Stopped, Error> {
        self.descriptors_left = TURN_DESCRIPTORS;
        for _ in 0..TURN_PACKETS {
            if !self.gather(mem, ring)? {
                return Ok(Stopped::NoBuffers);
            }
            if self.descriptors_left == 0 {
                return Ok(Stopped::TapEmpty);
            }
            let most = if self.mergeable {
                MAX_PIECES
            } else {
                self.buffers.front().map_or(0, |buffer| buffer.pieces)
            };
            match self.pieces.read_packet(tap, most) {
                Ok(len) => self.use_buffers(mem, ring, len)?,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(Stopped::TapEmpty),
                    io::ErrorKind::Interrupted => {}
                    _ => return Ok(Stopped::TapGone),
                },
            }
        }
        Ok(Stopped::TapEmpty)
    }

    /// Takes buffers until a packet fits, or the turn is over; false if the guest has
    /// too few.
    fn gather(&mut self, mem: &GuestMemoryMmap, ring: &mut Queue) -> Result<bool, Error> {
        while !self.rests() {
            ring.disable_notification(mem)?;
            while !self.rests()
                && let Some(chain) = Chain::next_of(ring, mem, IndirectTables::Refused)?
            {
                self.add(&chain)?;
            }
            // All that there is was taken, so this asks for a notification of anything new.
            if !self.rests() && !ring.enable_notification(mem)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// No more buffers are to be taken now.
    fn rests(&self) -> bool {
        self.suffices() || self.descriptors_left == 0
    }

    fn suffices(&self) -> bool {
        if !self.mergeable {
            return !self.buffers.is_empty();
        }
        // Also a guest that takes no long packets: the MTU of a tap can be as long, and
        // a packet that is cut off looks like a whole one.
        self.byte_len >= MAX_PACKET_LEN || self.pieces.count() >= MAX_PIECES
    }

    fn add(&mut self, chain: &Chain<'_>) -> Result<(), Error> {
        let head = chain.head_index();
        let pieces_before = self.pieces.count();
        let mut byte_len = 0;
        let mut count_at = [GuestAddress(0); 2];
        for descriptor in chain.descriptors() {
            let descriptor = descriptor?;
            self.descriptors_left = self.descriptors_left.saturating_sub(1);
            if !descriptor.is_write_only() {
                continue;
            }
            let len = usize::try_from(descriptor.len()).unwrap_or(usize::MAX);
            if !self.pieces.push(descriptor.addr(), len, Permissions::Write) {
                return Err(broken());
            }
            for (at, place) in (BUFFER_COUNT_AT..).zip(&mut count_at) {
                let offset = at.checked_sub(byte_len).filter(|offset| *offset < len);
                let found = offset.and_then(|offset| descriptor.addr().checked_add(offset as u64));
                *place = found.unwrap_or(*place);
            }
            byte_len += len;
        }
        if byte_len < HEADER_LEN {
            return Err(broken());
        }
        self.byte_len += byte_len;
        self.buffers.push_back(Buffer {
            head,
            byte_len,
            pieces: self.pieces.count() - pieces_before,
            count_at,
        });
        Ok(())
    }

    /// Gives the guest the buffers that a packet of `len` bytes went into.
    fn use_buffers(
        &mut self,
        mem: &GuestMemoryMmap,
        ring: &mut Queue,
        len: usize,
    ) -> Result<(), Error> {
        let mut room = 0;
        let mut count = 0_u16;
        for buffer in &self.buffers {
            room += buffer.byte_len;
            count += 1;
            if room >= len {
                break;
            }
        }
        if let Some(first) = self.buffers.front() {
            for (place, byte) in first.count_at.into_iter().zip(count.to_le_bytes()) {
                // Found to be in memory when the buffer was taken.
                mem.write_obj(byte, place).ok();
            }
        }
        let mut left = len;
        for buffer in self.buffers.drain(..usize::from(count)) {
            let filled = left.min(buffer.byte_len);
            left -= filled;
            self.byte_len -= buffer.byte_len;
            self.pieces.skip(buffer.pieces);
            let filled = u32::try_from(filled).unwrap_or(u32::MAX);
            ring.add_used(mem, buffer.head, filled)?;
        }
        Ok(())
    }
}

fn broken() -> Error {
    Error::Guest("a receive buffer is too small or not in memory".to_owned())
}
