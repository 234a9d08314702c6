//! The balloon (virtio 1.3, section 5.5): memory the guest doesn't use goes back to
//! the host.
//!
//! Free page reporting is what it is for; inflating works as specified
//! but no size is ever asked for. Pages are given back by punching holes into the
//! memory file, which takes them from every process that maps it.

use std::fs::File;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use virtio_bindings::virtio_ids::VIRTIO_ID_BALLOON;
use vm_memory::{Address, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use super::chain::Chain;
use super::device::{ActiveQueues, Error, Events, VirtioDevice};
use super::span::Span;
use super::turn::Turn;

const INFLATE: u16 = 0;
const DEFLATE: u16 = 1;
const REPORT: u16 = 2;
const QUEUE_SIZES: [u16; 3] = [32, 32, 32];

/// `VIRTIO_BALLOON_F_DEFLATE_ON_OOM`
const F_DEFLATE_ON_OOM: u64 = 1 << 2;
/// `VIRTIO_BALLOON_F_PAGE_REPORTING`
const F_PAGE_REPORTING: u64 = 1 << 5;

/// Length of `struct virtio_balloon_config`.
const CONFIG_LEN: usize = 16;
/// Offset of the number of pages that the guest has given.
const ACTUAL: usize = 4;
/// Unit of the page numbers in the inflate queue.
const PAGE_LEN: u64 = 4096;
/// Page numbers taken of one chain, which is as many as Linux puts into one; the pages
/// of further ones stay with the guest.
const MAX_NUMBERS: usize = 256;
/// What a hole costs of a turn beside its length, in bytes.
const HOLE_COST: usize = 64 * 1024;

/// The balloon device.
#[derive(Debug, Default)]
pub(crate) struct Balloon {
    config: [u8; CONFIG_LEN],
    active: Option<ActiveQueues>,
}

impl VirtioDevice for Balloon {
    fn device_id(&self) -> u32 {
        VIRTIO_ID_BALLOON
    }

    fn features(&self) -> u64 {
        F_DEFLATE_ON_OOM | F_PAGE_REPORTING
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        if offset == ACTUAL && bytes.len() == size_of::<u32>() {
            let actual = self.config.iter_mut().skip(ACTUAL);
            actual.zip(bytes).for_each(|(shown, byte)| *shown = *byte);
        }
    }

    fn activate(&mut self, active: ActiveQueues, _events: &mut dyn Events) -> Result<(), Error> {
        self.active = Some(active);
        Ok(())
    }

    fn queue_ready(&mut self, queue: u16, events: &mut dyn Events) -> Result<(), Error> {
        let Some(active) = self.active.as_mut() else {
            return Ok(());
        };
        active.serve(queue, events, |mem, chain, turn| {
            match queue {
                INFLATE => inflate(mem, chain, turn)?,
                REPORT => report(mem, chain, turn)?,
                // Deflated pages come back by themselves when they are touched.
                DEFLATE => {}
                _ => {}
            }
            Ok(0)
        })
    }

    fn reset(&mut self, _events: &mut dyn Events) {
        self.active = None;
        self.config = [0; CONFIG_LEN];
    }
}

/// The chain holds page numbers, u32 little endian.
fn inflate(mem: &GuestMemoryMmap, chain: &Chain<'_>, turn: &mut Turn) -> Result<(), Error> {
    let span = Span::readable(mem, chain)?;
    let mut bytes = [0; MAX_NUMBERS * size_of::<u32>()];
    span.copy_to(&mut bytes);
    let count = span.byte_len() / size_of::<u32>();
    let (numbers, _) = bytes.as_chunks();
    let mut run: Option<(u64, u64)> = None;
    for number in numbers.iter().take(count) {
        let start = u64::from(u32::from_le_bytes(*number)) * PAGE_LEN;
        run = match run {
            Some((first, len)) if first + len == start => Some((first, len + PAGE_LEN)),
            Some((first, len)) => {
                give_back(mem, first, len, turn)?;
                Some((start, PAGE_LEN))
            }
            None => Some((start, PAGE_LEN)),
        };
    }
    run.map_or(Ok(()), |(first, len)| give_back(mem, first, len, turn))
}

/// The buffers of the chain are themselves the free pages.
fn report(mem: &GuestMemoryMmap, chain: &Chain<'_>, turn: &mut Turn) -> Result<(), Error> {
    for buffer in chain.writable() {
        let buffer = buffer?;
        give_back(mem, buffer.addr().0, buffer.len().into(), turn)?;
    }
    Ok(())
}

/// Punches out `len` bytes of guest memory from `start`.
fn give_back(mem: &GuestMemoryMmap, start: u64, len: u64, turn: &mut Turn) -> Result<(), Error> {
    turn.spend(HOLE_COST);
    turn.spend(usize::try_from(len).unwrap_or(usize::MAX));
    let hole = file_range(mem, start, len)
        .ok_or_else(|| Error::Guest(format!("{len:#x} bytes at {start:#x} are not its memory")))?;
    let (Ok(offset), Ok(len)) = (i64::try_from(hole.offset), i64::try_from(len)) else {
        return Ok(());
    };
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    match fallocate(hole.file, flags, offset, len) {
        Ok(()) => Ok(()),
        // An empty range: nothing to give.
        Err(Errno::EINVAL) if len == 0 => Ok(()),
        Err(error) => Err(Error::Host {
            part: "give back guest memory",
            source: error.into(),
        }),
    }
}

struct FileRange<'a> {
    file: &'a File,
    offset: u64,
}

/// Where a stretch of guest memory is in the memory file; `None` if it isn't memory,
/// or reaches over the end of a region.
fn file_range(mem: &GuestMemoryMmap, start: u64, len: u64) -> Option<FileRange<'_>> {
    let (region, at) = mem.to_region_addr(GuestAddress(start))?;
    let inside = at.raw_value().checked_add(len)? <= region.len();
    let backing = region.file_offset().filter(|_| inside)?;
    Some(FileRange {
        file: backing.file(),
        offset: backing.start() + at.raw_value(),
    })
}

#[cfg(test)]
#[path = "balloon_test.rs"]
mod tests;
