//! Pages that are given back, and page numbers that are nobody's.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use proptest::prelude::*;
use vm_memory::{Bytes, FileOffset};
use vmm_sys_util::tempfile::TempFile;

use super::*;

const MEM_LEN: usize = 16 * 4096;
const BASE: u64 = 0x10_0000;

fn memory() -> (Arc<File>, GuestMemoryMmap) {
    let file = TempFile::new().unwrap().into_file();
    file.set_len(MEM_LEN as u64).unwrap();
    let file = Arc::new(file);
    let backing = FileOffset::from_arc(Arc::clone(&file), 0);
    let mem = [(GuestAddress(BASE), MEM_LEN, Some(backing))];
    (file, GuestMemoryMmap::from_ranges_with_files(mem).unwrap())
}

#[test]
fn what_is_given_back_is_gone_from_the_file() {
    let (file, mem) = memory();
    mem.write_slice(&[0xaa; MEM_LEN], GuestAddress(BASE))
        .unwrap();
    file.sync_all().unwrap();
    let before = file.metadata().unwrap().blocks();
    give_back(&mem, BASE + 4096, 2 * 4096, &mut Turn::new()).unwrap();
    assert_eq!(before - file.metadata().unwrap().blocks(), 2 * 4096 / 512);
    assert_eq!(mem.read_obj::<u8>(GuestAddress(BASE + 4096)).unwrap(), 0);
    assert_eq!(mem.read_obj::<u8>(GuestAddress(BASE)).unwrap(), 0xaa);
}

#[test]
fn memory_that_is_not_there_is_the_guests_fault() {
    let (_file, mem) = memory();
    for (start, len) in [
        (0, 4096),
        (BASE + MEM_LEN as u64 - 4096, 8192),
        (BASE, u64::MAX),
    ] {
        assert!(matches!(
            give_back(&mem, start, len, &mut Turn::new()),
            Err(Error::Guest(_))
        ));
    }
}

#[test]
fn the_guest_can_write_the_number_of_pages_and_nothing_else() {
    let mut balloon = Balloon::default();
    balloon.write_config(ACTUAL, &[1, 2, 3, 4]);
    balloon.write_config(0, &[9; 4]);
    balloon.write_config(ACTUAL, &[9; 8]);
    balloon.write_config(usize::MAX, &[9; 4]);
    assert_eq!(balloon.config()[..8], [0, 0, 0, 0, 1, 2, 3, 4]);
}

proptest! {
    #[test]
    fn no_range_reaches_out_of_the_file(start: u64, len: u64) {
        let (_file, mem) = memory();
        if let Some(range) = file_range(&mem, start, len) {
            prop_assert!(range.offset + len <= MEM_LEN as u64);
        }
    }
}
