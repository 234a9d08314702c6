//! Requests through a real queue, against a disk in a file.

use std::sync::Arc;

use proptest::prelude::*;
use virtio_queue::desc::{RawDescriptor, split::Descriptor};
use virtio_queue::mock::MockSplitQueue;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::tempfile::TempFile;

use super::*;
use crate::virtio::guest_ring::Counting;

const HEADER_AT: u64 = 0x1_0000;
const DATA_AT: u64 = 0x2_0000;
const STATUS_AT: u64 = 0x3_0000;
/// `VRING_DESC_F_NEXT` and `VRING_DESC_F_WRITE`, in the width of a descriptor.
const NEXT: u16 = 1;
const WRITE: u16 = 2;

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x4_0000)]).unwrap()
}

fn disk(access: Access) -> Block {
    let image = TempFile::new().unwrap().into_file();
    image.write_all_at(&[7; 1024], 0).unwrap();
    Block::new(image, access, "serial").unwrap()
}

/// Lets `block` answer one request of the given kind; returns its status.
fn ask(block: &mut Block, mem: &GuestMemoryMmap, kind: u8, sector: u64, data: u32) -> u8 {
    let mut header = [0; 16];
    header[0] = kind;
    header[8..].copy_from_slice(&sector.to_le_bytes());
    mem.write_slice(&header, GuestAddress(HEADER_AT)).unwrap();
    let data_flags = if kind == 1 { NEXT } else { NEXT | WRITE };
    let chain = [
        Descriptor::new(HEADER_AT, 16, NEXT, 1),
        Descriptor::new(DATA_AT, data, data_flags, 2),
        Descriptor::new(STATUS_AT, 1, WRITE, 0),
    ];
    serve(block, mem, &chain).unwrap();
    mem.read_obj(GuestAddress(STATUS_AT)).unwrap()
}

fn serve(block: &mut Block, mem: &GuestMemoryMmap, chain: &[Descriptor]) -> Result<(), Error> {
    let ring = MockSplitQueue::new(mem, 16);
    let chain: Vec<_> = chain.iter().copied().map(RawDescriptor::from).collect();
    ring.build_desc_chain(&chain).unwrap();
    let mut queue: Queue = ring.create_queue().unwrap();
    queue.set_event_idx(false);
    block.disk.buffer = vec![0; 512];
    let mut active = ActiveQueues {
        mem: mem.clone(),
        queues: vec![queue],
        features: 0,
        interrupt: Arc::new(Counting::default()),
    };
    let disk = &mut block.disk;
    active.serve(0, &mut Counting::default(), |mem, chain, turn| {
        disk.answer(mem, chain, turn)
    })
}

#[test]
fn what_is_written_can_be_read() {
    let (mem, mut block) = (memory(), disk(Access::ReadWrite));
    mem.write_slice(&[9; 1024], GuestAddress(DATA_AT)).unwrap();
    assert_eq!(ask(&mut block, &mem, 1, 0, 1024), 0);
    mem.write_slice(&[0; 1024], GuestAddress(DATA_AT)).unwrap();
    assert_eq!(ask(&mut block, &mem, 0, 1, 512), 0);
    let mut read = [0; 1024];
    mem.read_slice(&mut read, GuestAddress(DATA_AT)).unwrap();
    assert_eq!((read[511], read[512]), (9, 0));
}

#[test]
fn a_read_only_disk_is_not_written() {
    let (mem, mut block) = (memory(), disk(Access::ReadOnly));
    assert_eq!(ask(&mut block, &mem, 1, 0, 512), 1);
    let mut first = [0];
    block.disk.image.read_exact_at(&mut first, 0).unwrap();
    assert_eq!(first, [7]);
    assert_eq!(block.features() >> VIRTIO_BLK_F_RO & 1, 1);
}

#[test]
fn the_serial_number_is_padded_with_zeros() {
    let (mem, mut block) = (memory(), disk(Access::ReadOnly));
    assert_eq!(ask(&mut block, &mem, 8, 0, 20), 0);
    let mut serial = [1; 20];
    mem.read_slice(&mut serial, GuestAddress(DATA_AT)).unwrap();
    assert_eq!(&serial, b"serial\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
}

#[test]
fn what_can_not_be_done_has_its_status() {
    let (mem, mut block) = (memory(), disk(Access::ReadWrite));
    assert_eq!(ask(&mut block, &mem, 0, 2, 512), 1, "behind the end");
    assert_eq!(ask(&mut block, &mem, 0, 0, 100), 1, "no whole sector");
    assert_eq!(ask(&mut block, &mem, 13, 0, 512), 2, "unknown");
}

#[test]
fn a_long_serial_number_is_refused() {
    let image = TempFile::new().unwrap().into_file();
    let block = Block::new(image, Access::ReadOnly, "123456789012345678901");
    assert!(matches!(block, Err(OpenError::Serial(21))));
}

proptest! {
    /// Any three descriptors: an answer or an error of the guest, never a panic.
    #[test]
    fn arbitrary_chains_are_survived(
        descriptors in prop::collection::vec(
            (0_u64..0x5_0000, 0_u32..0x2_0000, 0_u16..4, 0_u16..20),
            1..5,
        ),
    ) {
        let (mem, mut block) = (memory(), disk(Access::ReadWrite));
        let chain: Vec<_> = descriptors
            .into_iter()
            .map(|(address, len, flags, next)| Descriptor::new(address, len, flags, next))
            .collect();
        match serve(&mut block, &mem, &chain) {
            Ok(()) | Err(Error::Guest(_) | Error::Queue(_)) => {}
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}
