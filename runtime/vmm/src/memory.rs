//! The guest's RAM: the owner's memory file, mapped where the layout has it.
//!
//! Owns the mapping. Where RAM lies is `arch`'s affair, what is written into it before the
//! start `boot`'s.

use std::fs::File;
use std::io;
use std::sync::Arc;

use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};

use crate::arch::ram_ranges;

/// Why guest memory could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The memory descriptor can't be examined.
    #[error("examine the memory file")]
    Examine(#[source] io::Error),
    /// The memory descriptor is shorter than the machine's memory.
    #[error("the memory file has {actual} bytes, the machine {wanted}")]
    Short {
        /// Length of the file.
        actual: u64,
        /// Length of guest memory.
        wanted: u64,
    },
    /// A region can't be mapped.
    #[error("map guest memory")]
    Map(#[source] vm_memory::mmap::FromRangesError),
}

/// Maps the memory file as guest RAM, shared with whoever else has the file.
pub(crate) fn map(file: File, mem_mib: u32) -> Result<GuestMemoryMmap, Error> {
    let actual = file.metadata().map_err(Error::Examine)?.len();
    let wanted = u64::from(mem_mib) << 20;
    if actual < wanted {
        return Err(Error::Short { actual, wanted });
    }
    let file = Arc::new(file);
    let ranges = ram_ranges(mem_mib).into_iter().map(|range| {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the largest machine has 2^40 bytes and usize has 64 bits"
        )]
        let len = range.len as usize;
        let offset = FileOffset::from_arc(Arc::clone(&file), range.file_offset);
        (GuestAddress(range.start), len, Some(offset))
    });
    GuestMemoryMmap::from_ranges_with_files(ranges.collect::<Vec<_>>()).map_err(Error::Map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_memory_file_is_refused() {
        let file = vmm_sys_util::tempfile::TempFile::new().unwrap().into_file();
        file.set_len(1 << 20).unwrap();
        assert!(matches!(map(file, 48), Err(Error::Short { .. })));
    }
}
