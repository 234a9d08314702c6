//! The parts of guest memory that every start uses from end to end, and huge pages for
//! them: there the guest faults a few times instead of thousands.
//!
//! Whether there are huge pages is up to the owner's memory file and the host.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use crate::sys;

/// Bytes of a huge page.
const HUGE_PAGE_LEN: u64 = 2 << 20;
/// Linux keeps 64 bytes about each page of 4 KiB: this part of memory.
const PAGE_DESCRIPTORS: u64 = 64;
/// What it allocates early beside those, in bytes.
const FIRST_ALLOCATIONS: u64 = 2 << 20;
/// Most bytes that are filled for early allocations: in large machines they come later.
const MOST_EARLY: u64 = 32 << 20;
/// Where it takes its first pages once it has an allocator: low memory, the first
/// free block of 4 MiB (the unpacked initramfs), the end of the first section. Found by
/// counting faults; in another kernel these pages may be used sparsely and cost a few MiB.
const FIRST_PAGES: [Range<u64>; 3] = [0..2 << 20, 8 << 20..12 << 20, 126 << 20..128 << 20];
const FILE_HEADER_LEN: usize = 64;
const SEGMENT_HEADER_LEN: usize = 56;
const SEGMENT_LOADED: u32 = 1;

/// Guest physical addresses from the first to the last byte that the segments of an
/// ELF file are loaded to; `None` if it has none or is no ELF file, which loading it
/// reports better.
fn extent(kernel: &File) -> io::Result<Option<Range<u64>>> {
    let mut header = [0; FILE_HEADER_LEN];
    kernel.read_exact_at(&mut header, 0)?;
    let (Some(table), Some(count)) = (long(&header, 32), short(&header, 56)) else {
        return Ok(None);
    };
    let mut extent: Option<Range<u64>> = None;
    for index in 0..u64::from(count) {
        let mut segment = [0; SEGMENT_HEADER_LEN];
        let at = table.saturating_add(index * SEGMENT_HEADER_LEN as u64);
        kernel.read_exact_at(&mut segment, at)?;
        let loaded = segment.starts_with(&SEGMENT_LOADED.to_le_bytes());
        if let (true, Some(start), Some(len)) = (loaded, long(&segment, 24), long(&segment, 40)) {
            let end = start.saturating_add(len);
            extent = Some(match extent {
                Some(known) => known.start.min(start)..known.end.max(end),
                None => start..end,
            });
        }
    }
    Ok(extent)
}

/// Puts huge pages, where there are any, under the image that `kernel` will become, and
/// under what the guest's kernel takes first: the end of memory, where also the
/// initramfs of `initramfs_len` bytes is put, and its first pages.
pub(crate) fn reserve(mem: &GuestMemoryMmap, kernel: &File, initramfs_len: u64) {
    // Only an optimization: what is wrong with the file, loading it reports.
    if let Ok(Some(image)) = extent(kernel) {
        put_huge_pages(mem, image);
    }
    let total: u64 = mem.iter().map(GuestMemoryRegion::len).sum();
    let early = total / PAGE_DESCRIPTORS + initramfs_len.saturating_add(FIRST_ALLOCATIONS);
    let end = mem.last_addr().0 + 1;
    put_huge_pages(mem, end.saturating_sub(early.min(MOST_EARLY))..end);
    for range in FIRST_PAGES {
        // Not touched here: the guest may never come there.
        advise(mem, range);
    }
}

/// Asks for huge pages under `range`, rounded outwards, which is returned; `None` if
/// there are none to be had.
fn advise(mem: &GuestMemoryMmap, range: Range<u64>) -> Option<Range<u64>> {
    let start = range.start / HUGE_PAGE_LEN * HUGE_PAGE_LEN;
    let end = range.end.checked_next_multiple_of(HUGE_PAGE_LEN)?;
    let len = usize::try_from(end.saturating_sub(start)).ok()?;
    let slice = mem.get_slice(GuestAddress(start), len).ok()?;
    sys::advise_huge_pages(&slice).ok()?;
    Some(start..end)
}

/// Copying through the memory file makes small pages only: the first byte of each huge
/// page is touched before.
fn put_huge_pages(mem: &GuestMemoryMmap, range: Range<u64>) {
    let Some(range) = advise(mem, range) else {
        return;
    };
    let mut page = range.start;
    while page < range.end {
        mem.write_obj(0_u8, GuestAddress(page)).ok();
        page += HUGE_PAGE_LEN;
    }
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;
    use vmm_sys_util::tempfile::TempFile;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = TempFile::new().unwrap().into_file();
        file.write_all(bytes).unwrap();
        file
    }

    /// An ELF file that is nothing but headers, with segments of (type, address, length).
    fn elf(segments: &[(u32, u64, u64)]) -> Vec<u8> {
        let mut bytes = vec![0; FILE_HEADER_LEN];
        bytes[32] = 64;
        bytes[56] = u8::try_from(segments.len()).unwrap();
        for (kind, address, len) in segments {
            let mut segment = [0; SEGMENT_HEADER_LEN];
            segment[..4].copy_from_slice(&kind.to_le_bytes());
            segment[24..32].copy_from_slice(&address.to_le_bytes());
            segment[40..48].copy_from_slice(&len.to_le_bytes());
            bytes.extend(segment);
        }
        bytes
    }

    #[test]
    fn only_loaded_segments_count() {
        let segments = [(1, 0x20_0000, 0x1000), (4, 0, 1), (1, 0x10_0000, 0x500)];
        let extent = extent(&file(&elf(&segments))).unwrap();
        assert_eq!(extent, Some(0x10_0000..0x20_1000));
    }

    proptest! {
        #[test]
        fn any_file_is_survived(
            segments in prop::collection::vec((0_u32..3, any::<u64>(), any::<u64>()), 0..4),
            cut in 0_usize..300,
            initramfs_len in any::<u64>(),
        ) {
            let mem = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 8 << 20)]).unwrap();
            let mut bytes = elf(&segments);
            bytes.truncate(cut);
            reserve(&mem, &file(&bytes), initramfs_len);
        }
    }
}
