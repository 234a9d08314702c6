//! One request on its way from the guest's ring to the file system: what of it
//! decides anything is copied out of the guest's memory once, and nothing of
//! that is read there again, so a check holds whatever the guest does meanwhile.
//!
//! Owns the copy, the descriptors that lead to it, and the walk of the guest's
//! own. Does not own what a request may say, which is `check`'s.

use std::io::Write as _;
use std::num::Wrapping;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use vhost_user_backend::bitmap::BitmapMmapRegion;
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT as _, QueueT as _};
use virtiofsd::descriptor_utils::{Reader, Writer};
use virtiofsd::fuse::{InHeader, Opcode, OutHeader, WriteIn};
use vm_memory::{
    ByteValued as _, Bytes as _, GuestAddress, GuestMemory as _, GuestMemoryMmap,
    GuestMemoryRegion as _, GuestRegionMmap, MmapRegion,
};

/// The memory of a guest as the library wants it: with room for a log of writes.
pub(super) type Memory = GuestMemoryMmap<BitmapMmapRegion>;
/// A chain of the guest's ring.
pub(super) type Chain = DescriptorChain<Arc<Memory>>;

/// Bytes of FUSE's header of a request.
pub(super) const HEADER: usize = size_of::<InHeader>();
/// Bytes of FUSE's header of an answer.
pub(super) const ANSWER_HEADER: usize = size_of::<OutHeader>();
/// The most data in one request or answer, in bytes; as INIT has it.
pub(super) const MAX_DATA: usize = 1 << 20;
/// The longest request but WRITE: the most data, and room for what comes before it.
const MAX_COPY: usize = MAX_DATA + 4096;
/// The most descriptors of one request: what readv and writev take.
const MAX_DESCRIPTORS: u16 = 1024;

/// Where the copy lies among the guest's addresses: above all that any x86 can have.
const PLACE: u64 = 1 << 52;
const TABLE: GuestAddress = GuestAddress(PLACE);
const AVAILABLE: GuestAddress = GuestAddress(PLACE + 0x4000);
const AVAILABLE_INDEX: GuestAddress = GuestAddress(PLACE + 0x4002);
const USED: GuestAddress = GuestAddress(PLACE + 0x5000);
const COPY: GuestAddress = GuestAddress(PLACE + 0x8000);
const PLACE_SIZE: usize = 0x8000 + MAX_COPY;

/// Flags of a descriptor (virtio 1.3, section 2.7.5).
const NEXT: u16 = 1;
const WRITE_ONLY: u16 = 2;

/// No memory to put copies in, or the guest's own lies where they would.
#[derive(Debug, thiserror::Error)]
#[error("prepare memory for requests: {0}")]
pub(super) struct Unprepared(String);

/// A chain that no answer can be written to.
#[derive(Debug)]
pub(super) struct Unanswerable;

/// A stretch of the guest's memory, inside one region.
#[derive(Debug, Clone, Copy)]
struct Span {
    address: u64,
    len: u32,
}

/// The guest's memory with the place for copies, for one request at a time.
pub(super) struct RequestReader {
    guest: Arc<Memory>,
    with_copy: Arc<Memory>,
    queue: Queue,
    made: Wrapping<u16>,
    readable: Vec<Span>,
    writable: Vec<Span>,
    copied: Vec<u8>,
}

impl RequestReader {
    /// A reader for the requests of `guest`.
    pub(super) fn beside(guest: Arc<Memory>) -> Result<Self, Unprepared> {
        let failed = |cause: &dyn std::fmt::Display| Unprepared(cause.to_string());
        let place = MmapRegion::new(PLACE_SIZE).map_err(|err| failed(&err))?;
        let place = GuestRegionMmap::new(place, TABLE).ok_or_else(|| failed(&"no such address"))?;
        let with_copy = guest
            .insert_region(Arc::new(place))
            .map_err(|err| failed(&err))?;
        let mut queue = Queue::new(MAX_DESCRIPTORS).map_err(|err| failed(&err))?;
        queue
            .try_set_desc_table_address(TABLE)
            .and_then(|()| queue.try_set_avail_ring_address(AVAILABLE))
            .and_then(|()| queue.try_set_used_ring_address(USED))
            .map_err(|err| failed(&err))?;
        queue.set_ready(true);
        Ok(Self {
            guest,
            with_copy: Arc::new(with_copy),
            queue,
            made: Wrapping(0),
            readable: Vec::new(),
            writable: Vec::new(),
            copied: Vec::new(),
        })
    }

    /// The guest's memory that this reader copies from.
    pub(super) const fn guest(&self) -> &Arc<Memory> {
        &self.guest
    }

    /// Takes up a request: its header and all that a check needs. All of it but
    /// what a WRITE is to write.
    ///
    /// # Errors
    /// Descriptors out of order, too many or outside of memory; no whole header; or
    /// a request that waits for an answer and has no room for one.
    pub(super) fn take(&mut self, chain: Chain) -> Result<Request<'_>, Unanswerable> {
        self.walk(chain)?;
        self.copied.clear();
        self.copy_until(HEADER)?;
        let header = InHeader::from_slice(&self.copied)
            .copied()
            .ok_or(Unanswerable)?;
        let room = total(&self.writable);
        if room < ANSWER_HEADER && !goes_unanswered(header.opcode) {
            return Err(Unanswerable);
        }
        let announced = usize::try_from(header.len).map_err(|_| Unanswerable)?;
        let whole = announced >= HEADER && announced <= HEADER + total(&self.readable);
        if whole {
            let wanted = match Opcode::try_from(header.opcode) {
                Ok(Opcode::Write) => announced.min(HEADER + size_of::<WriteIn>()),
                _ => announced.min(MAX_COPY),
            };
            self.copy_until(wanted)?;
            cut(&mut self.readable, announced - wanted);
        }
        Ok(Request {
            header,
            whole,
            room,
            reader: self,
        })
    }

    /// Notes what a chain leads to.
    fn walk(&mut self, chain: Chain) -> Result<(), Unanswerable> {
        self.readable.clear();
        self.writable.clear();
        for (count, descriptor) in chain.enumerate() {
            // One is the copy's.
            if count + 1 >= usize::from(MAX_DESCRIPTORS) {
                return Err(Unanswerable);
            }
            if descriptor.len() == 0 {
                continue;
            }
            let span = Span {
                address: descriptor.addr().0,
                len: descriptor.len(),
            };
            if !self.lies_in_memory(span) {
                return Err(Unanswerable);
            }
            if descriptor.is_write_only() {
                self.writable.push(span);
            } else if self.writable.is_empty() {
                self.readable.push(span);
            } else {
                return Err(Unanswerable);
            }
        }
        Ok(())
    }

    fn lies_in_memory(&self, span: Span) -> bool {
        let Some(region) = self.guest.find_region(GuestAddress(span.address)) else {
            return false;
        };
        let last = span.address.checked_add(u64::from(span.len) - 1);
        last.is_some_and(|last| last <= region.last_addr().0)
    }

    /// Copies on until there are `wanted` bytes, and takes those off what is readable.
    fn copy_until(&mut self, wanted: usize) -> Result<(), Unanswerable> {
        let mut done = 0;
        for span in &mut self.readable {
            let have = self.copied.len();
            let len = wanted.saturating_sub(have).min(span.len as usize);
            let part = u32::try_from(len).map_err(|_| Unanswerable)?;
            self.copied.resize(have + len, 0);
            let target = self.copied.get_mut(have..).ok_or(Unanswerable)?;
            self.guest
                .read_slice(target, GuestAddress(span.address))
                .map_err(|_| Unanswerable)?;
            span.address += u64::from(part);
            span.len -= part;
            if span.len > 0 {
                break;
            }
            done += 1;
        }
        self.readable.drain(..done);
        if self.copied.len() < wanted {
            return Err(Unanswerable);
        }
        Ok(())
    }

    /// A chain of the copy, if there is one, of `readable`, and of `writable`.
    fn chain(&mut self) -> Option<Chain> {
        let copy = Span {
            address: COPY.0,
            len: u32::try_from(self.copied.len()).ok()?,
        };
        self.with_copy.write_slice(&self.copied, COPY).ok()?;
        let readable = std::iter::once(&copy).chain(&self.readable);
        let all = readable
            .map(|span| (span, 0))
            .chain(self.writable.iter().map(|span| (span, WRITE_ONLY)));
        let last = self.readable.len() + self.writable.len();
        let mut at = TABLE;
        for (number, (span, flags)) in (0_u16..).zip(all) {
            let more = if usize::from(number) < last { NEXT } else { 0 };
            let low = u64::from(span.len) | (u64::from(flags | more) << 32);
            let words = [span.address, low | (u64::from(number + 1) << 48)];
            for word in words {
                self.with_copy.write_obj(word.to_le(), at).ok()?;
                at = GuestAddress(at.0 + 8);
            }
        }
        self.made += 1;
        let index = self.made.0.to_le();
        self.with_copy
            .store(index, AVAILABLE_INDEX, Ordering::Release)
            .ok()?;
        self.queue.iter(Arc::clone(&self.with_copy)).ok()?.next()
    }
}

/// A request that waits for no answer, and gets none.
pub(super) fn goes_unanswered(opcode: u32) -> bool {
    matches!(
        Opcode::try_from(opcode),
        Ok(Opcode::Forget | Opcode::BatchForget | Opcode::Interrupt | Opcode::Destroy)
    )
}

/// A request that was taken up.
pub(super) struct Request<'a> {
    /// Its header.
    pub(super) header: InHeader,
    /// There are as many bytes as in the header.
    pub(super) whole: bool,
    /// Bytes of room for the answer.
    pub(super) room: usize,
    reader: &'a mut RequestReader,
}

impl Request<'_> {
    /// What follows the header, as far as it is copied.
    pub(super) fn body(&self) -> &[u8] {
        self.reader.copied.get(HEADER..).unwrap_or_default()
    }

    /// What is to be written by a WRITE, in bytes.
    pub(super) fn data_len(&self) -> usize {
        total(&self.reader.readable)
    }

    /// Leaves as much room for the answer as it will need at most.
    pub(super) fn limit_room(&mut self, bytes: usize) {
        cut(&mut self.reader.writable, bytes);
    }

    /// Has `serve` read the request and write the answer. Returns how many bytes were
    /// written, or nothing if there was no way to.
    pub(super) fn pass<T>(&mut self, serve: impl FnOnce(Reader<'_>, Writer<'_>) -> T) -> Option<T> {
        let chain = self.reader.chain()?;
        let memory = &self.reader.with_copy;
        let reader = Reader::new(memory, chain.clone()).ok()?;
        let writer = Writer::new(memory, chain).ok()?;
        Some(serve(reader, writer))
    }

    /// Answers with `data`, or with the error `errno`. Returns the answer's length in
    /// bytes; zero for what gets no answer.
    pub(super) fn answer(&mut self, outcome: Result<&[u8], i32>) -> usize {
        if goes_unanswered(self.header.opcode) {
            return 0;
        }
        let data = outcome.unwrap_or_default();
        let len = ANSWER_HEADER + data.len();
        let header = OutHeader {
            len: u32::try_from(len).unwrap_or(u32::MAX),
            error: outcome.err().map_or(0, std::ops::Neg::neg),
            unique: self.header.unique,
        };
        let written = self.pass(|_, mut writer| {
            writer.write_all(header.as_slice())?;
            writer.write_all(data)
        });
        match written {
            Some(Ok(())) => len,
            _ => 0,
        }
    }
}

fn total(spans: &[Span]) -> usize {
    spans.iter().map(|span| span.len as usize).sum()
}

/// Shortens `spans` to `bytes` in all.
fn cut(spans: &mut Vec<Span>, bytes: usize) {
    let mut left = bytes;
    spans.retain_mut(|span| {
        let len = left.min(span.len as usize);
        left -= len;
        span.len = u32::try_from(len).unwrap_or(span.len);
        len > 0
    });
}
