//! Placing and refusing images; a real kernel is booted in `tests/boot.rs`.

use std::io::Write;

use proptest::prelude::*;
use vmm_sys_util::tempfile::TempFile;

use super::*;

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 4 << 20)]).unwrap()
}

fn file(bytes: &[u8]) -> File {
    let mut file = TempFile::new().unwrap().into_file();
    file.write_all(bytes).unwrap();
    file
}

#[test]
fn what_is_no_elf_file_is_refused() {
    for bytes in [&b""[..], b"\x7fELF", b"#!/bin/sh\n", &[0xff; 4096]] {
        let result = load(&memory(), &mut file(bytes), &mut file(b""));
        assert!(matches!(result, Err(Error::Kernel(_))), "{bytes:?}");
    }
}

#[test]
fn the_initramfs_goes_to_the_end_of_memory() {
    let mem = memory();
    let mut file = file(b"070701");
    let loaded = load_initramfs(&mem, &mut Image::new(&mut file, &mem), 6, 0x20_0000).unwrap();
    assert_eq!(
        loaded,
        Loaded {
            start: (4 << 20) - 4096,
            len: 6
        }
    );
    let mut bytes = [0; 6];
    mem.read_slice(&mut bytes, GuestAddress(loaded.start))
        .unwrap();
    assert_eq!(&bytes, b"070701");
}

#[test]
fn an_initramfs_that_would_reach_into_the_kernel_is_refused() {
    let (mem, mut file) = (memory(), file(&[0; 8192]));
    let mut image = Image::new(&mut file, &mem);
    let result = load_initramfs(&mem, &mut image, 8192, (4 << 20) - 4096);
    assert!(matches!(
        result,
        Err(Error::NoRoom {
            initramfs_len: 8192
        })
    ));
}

#[test]
fn every_slot_is_announced() {
    let line = cmdline("quiet", 2);
    let expected = "quiet virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6";
    assert_eq!(line, expected);
}

#[test]
fn a_long_command_line_is_refused() {
    let mem = memory();
    write_cmdline(&mem, &"x".repeat(CMDLINE_CAPACITY - 1)).unwrap();
    let result = write_cmdline(&mem, &"x".repeat(CMDLINE_CAPACITY));
    assert!(matches!(result, Err(Error::Cmdline(_))));
}

proptest! {
    #[test]
    fn a_place_is_inside_its_bounds(len: u64, floor: u64, end: u64) {
        if let Some(start) = highest_place(len, floor, end) {
            prop_assert!(start >= floor);
            prop_assert!(start <= end - len);
            prop_assert_eq!(start % PAGE, 0);
        }
    }
}
