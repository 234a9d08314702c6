//! From the tap to the guest: buffers of the guest are gathered until the longest
//! packet fits, one call fills them, and those that stayed empty are given back.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;

use virtio_bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestMemoryMmap, VolatileSlice};
use vmm_sys_util::epoll::EventSet;

use super::offloads::has_long_packets;
use super::{BATCH, HEADER_LEN, MAX_PACKET_LEN, RX};
use crate::sys::{MAX_SLICES, read_packet};
use crate::virtio::chains::Chain;
use crate::virtio::device::{ActiveQueues, Error};
use crate::virtio::vsock::span::Span;

/// Where the header says over how many buffers a packet goes (u16, little endian).
const BUFFER_COUNT_AT: usize = 10;
/// Room for a frame without segmentation: a guest that takes no long packets has
/// buffers for its MTU and not more.
const FRAME_LEN: usize = HEADER_LEN + 1500;

/// Why no more packets are handed over now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    /// None is there, or others have their turn: the tap says when to go on.
    TapEmpty,
    /// The guest has too few buffers: it says when to go on.
    NoBuffers,
    /// The tap, or its namespace, is no more.
    TapGone,
}

/// What is agreed with the guest about its buffers, and what is waited for.
#[derive(Debug)]
pub(super) struct Receiver {
    /// A packet may go over several buffers.
    mergeable: bool,
    /// Room that a packet may need.
    room: usize,
    /// For what the tap is watched.
    pub(super) interest: EventSet,
    /// The tap is watched no more.
    pub(super) gone: bool,
}

impl Default for Receiver {
    fn default() -> Self {
        Self::new(0)
    }
}

/// A buffer of the guest that no packet is in yet.
struct Buffer<'m> {
    head: u16,
    span: Span<'m>,
}

/// Buffers in the order in which the guest gave them.
#[derive(Default)]
struct Gathered<'m> {
    buffers: VecDeque<Buffer<'m>>,
    byte_len: usize,
}

impl<'m> Gathered<'m> {
    fn add(&mut self, mem: &'m GuestMemoryMmap, chain: Chain<'_>) -> Result<(), Error> {
        let head = chain.head_index();
        let span = Span::writable(mem, chain).filter(|span| span.byte_len() >= HEADER_LEN);
        let Some(span) = span else {
            let complaint = "a receive buffer is too small or not in memory";
            return Err(Error::Guest(complaint.to_owned()));
        };
        self.byte_len += span.byte_len();
        self.buffers.push_back(Buffer { head, span });
        Ok(())
    }
}

impl Receiver {
    /// For a guest that has acknowledged these features.
    pub(super) fn new(features: u64) -> Self {
        let room = if has_long_packets(features) {
            MAX_PACKET_LEN
        } else {
            FRAME_LEN
        };
        Self {
            mergeable: features >> VIRTIO_NET_F_MRG_RXBUF & 1 == 1,
            room,
            interest: EventSet::IN,
            gone: false,
        }
    }

    /// Hands packets over until something has to be waited for.
    pub(super) fn run(
        &self,
        tap: BorrowedFd<'_>,
        active: &mut ActiveQueues,
    ) -> Result<Stopped, Error> {
        let mem = active.mem.clone();
        let Some(ring) = active.queues.get_mut(usize::from(RX)) else {
            return Ok(Stopped::NoBuffers);
        };
        let mut gathered = Gathered::default();
        let stopped = self.fill(tap, &mem, ring, &mut gathered);
        let unused = u16::try_from(gathered.buffers.len()).unwrap_or(0);
        ring.set_next_avail(ring.next_avail().wrapping_sub(unused));
        let stopped = stopped?;
        if ring.needs_notification(&mem)? {
            active.interrupt.queue_used(RX);
        }
        Ok(stopped)
    }

    fn fill<'m>(
        &self,
        tap: BorrowedFd<'_>,
        mem: &'m GuestMemoryMmap,
        ring: &mut Queue,
        gathered: &mut Gathered<'m>,
    ) -> Result<Stopped, Error> {
        for _ in 0..BATCH {
            if !self.gather(mem, ring, gathered)? {
                return Ok(Stopped::NoBuffers);
            }
            let count = if self.mergeable { usize::MAX } else { 1 };
            let slices: Vec<VolatileSlice<'_>> = gathered
                .buffers
                .iter()
                .take(count)
                .flat_map(|buffer| buffer.span.slices())
                .cloned()
                .collect();
            match read_packet(tap, &slices) {
                Ok(len) => use_buffers(mem, ring, gathered, len)?,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(Stopped::TapEmpty),
                    io::ErrorKind::Interrupted => {}
                    _ => return Ok(Stopped::TapGone),
                },
            }
        }
        Ok(Stopped::TapEmpty)
    }

    /// Takes buffers until a packet fits; false if the guest has too few.
    fn gather<'m>(
        &self,
        mem: &'m GuestMemoryMmap,
        ring: &mut Queue,
        gathered: &mut Gathered<'m>,
    ) -> Result<bool, Error> {
        loop {
            ring.disable_notification(mem)?;
            while !self.suffices(gathered)
                && let Some(chain) = ring.iter(mem)?.next()
            {
                gathered.add(mem, chain)?;
            }
            if self.suffices(gathered) {
                return Ok(true);
            }
            // All that there is was taken, so this asks to be told of anything new.
            if !ring.enable_notification(mem)? {
                return Ok(false);
            }
        }
    }

    fn suffices(&self, gathered: &Gathered<'_>) -> bool {
        if !self.mergeable {
            return !gathered.buffers.is_empty();
        }
        gathered.byte_len >= self.room || gathered.buffers.len() >= MAX_SLICES
    }
}

/// Gives the guest the buffers that a packet of `len` bytes went into.
fn use_buffers(
    mem: &GuestMemoryMmap,
    ring: &mut Queue,
    gathered: &mut Gathered<'_>,
    len: usize,
) -> Result<(), Error> {
    let mut used = Vec::with_capacity(1);
    let mut left = len;
    while let Some(buffer) = gathered
        .buffers
        .pop_front_if(|_| left > 0 || used.is_empty())
    {
        let filled = left.min(buffer.span.byte_len());
        left -= filled;
        gathered.byte_len -= buffer.span.byte_len();
        used.push((buffer, filled));
    }
    let count = u16::try_from(used.len()).unwrap_or(u16::MAX);
    if let Some((first, _)) = used.first() {
        write_count(&first.span, count);
    }
    for (buffer, filled) in used {
        let filled = u32::try_from(filled).unwrap_or(u32::MAX);
        ring.add_used(mem, buffer.head, filled)?;
    }
    Ok(())
}

/// The tap leaves this member of the header to whoever knows the buffers.
fn write_count(span: &Span<'_>, count: u16) {
    let mut skip = BUFFER_COUNT_AT;
    let mut bytes = count.to_le_bytes().into_iter();
    for slice in span.slices() {
        let start = skip.min(slice.len());
        skip -= start;
        for at in start..slice.len() {
            let Some(byte) = bytes.next() else {
                return;
            };
            // Inside of the slice, so there is nothing that can fail.
            slice.write_obj(byte, at).ok();
        }
    }
}
