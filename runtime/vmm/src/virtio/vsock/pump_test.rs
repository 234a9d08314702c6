//! Packets through virtqueues in guest memory that this test lays out.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use proptest::prelude::*;
use virtio_queue::desc::{RawDescriptor, split::Descriptor};
use virtio_queue::mock::MockSplitQueue;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::super::packet::{HOST_CID, Operation, STREAM};
use super::*;

const GUEST: u64 = 3;
const QUEUE_LEN: u16 = 16;
const MEMORY_LEN: usize = 0x10_0000;
/// Where buffers are; the rings are below.
const BUFFERS: u64 = 0x8_0000;
/// Descriptor flags.
const NEXT: u16 = 1;
const WRITE: u16 = 2;
/// `HEADER_LEN` as a descriptor has it.
const HEADER_BYTES: u32 = 44;

/// One buffer of a chain: address, length and flags.
type Piece = (u64, u32, u16);

struct World {
    mem: GuestMemoryMmap,
    rx: Queue,
    tx: Queue,
    muxer: Muxer,
    owner: UnixDatagram,
}

impl World {
    /// Chains are made available at once: one in `rx` and one in `tx`.
    fn new(rx: &[Piece], tx: &[Piece]) -> Self {
        let mem = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_LEN)]).unwrap();
        let rx = queue(&mem, 0, rx);
        let tx = queue(&mem, 0x4000, tx);
        let flags = SockFlag::SOCK_CLOEXEC;
        let (device, owner) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        let muxer = Muxer::new(GUEST, device).unwrap();
        Self {
            mem,
            rx,
            tx,
            muxer,
            owner: owner.into(),
        }
    }

    fn pump(&mut self) -> Result<Signals, Error> {
        let mut rings = Rings {
            mem: &self.mem,
            rx: &mut self.rx,
            tx: &mut self.tx,
        };
        pump(&mut self.muxer, &mut rings)
    }

    fn header_at(&self, address: u64) -> Header {
        let mut bytes = [0; HEADER_LEN];
        self.mem
            .read_slice(&mut bytes, GuestAddress(address))
            .unwrap();
        Header::from_bytes(&bytes)
    }
}

fn queue(mem: &GuestMemoryMmap, base: u64, pieces: &[Piece]) -> Queue {
    let mock = MockSplitQueue::create(mem, GuestAddress(base), QUEUE_LEN);
    if !pieces.is_empty() {
        let descriptors: Vec<RawDescriptor> = pieces
            .iter()
            .enumerate()
            .map(|(index, (address, len, flags))| {
                let next = u16::try_from(index + 1).unwrap();
                RawDescriptor::from(Descriptor::new(*address, *len, *flags, next))
            })
            .collect();
        mock.add_desc_chains(&descriptors, 0).unwrap();
    }
    mock.create_queue().unwrap()
}

fn request() -> Header {
    Header {
        src_cid: GUEST,
        dst_cid: HOST_CID,
        src_port: 5000,
        dst_port: 1024,
        kind: STREAM,
        op: Operation::Request.number(),
        buf_alloc: 0x10000,
        ..Header::default()
    }
}

fn accept(owner: &UnixDatagram) -> UnixStream {
    let (_, file) = owner.recv_with_fd(&mut [0; 4]).unwrap();
    UnixStream::from(OwnedFd::from(file.unwrap()))
}

#[test]
fn request_is_answered_in_the_buffer_that_waits() {
    let mut world = World::new(
        &[(BUFFERS, 4096, WRITE)],
        &[(BUFFERS + 0x1000, HEADER_BYTES, 0)],
    );
    world
        .mem
        .write_slice(&request().to_bytes(), GuestAddress(BUFFERS + 0x1000))
        .unwrap();
    let signals = world.pump().unwrap();
    assert_eq!(signals, Signals { rx: true, tx: true });
    let answer = world.header_at(BUFFERS);
    assert_eq!(answer.op, Operation::Response.number());
    assert_eq!((answer.src_port, answer.dst_port), (1024, 5000));
    assert_eq!(world.pump().unwrap(), Signals::default());
}

#[test]
fn packet_in_many_pieces_arrives_as_one() {
    // The header lies across three pieces, the payload across two.
    let pieces = [
        (BUFFERS, 10, NEXT),
        (BUFFERS + 0x100, 30, NEXT),
        (BUFFERS + 0x200, 7, NEXT),
        (BUFFERS + 0x300, 100, 0),
    ];
    let mut world = World::new(&[], &pieces);
    world.muxer.receive(&request(), &[]);
    let mut stream = accept(&world.owner);
    let data = Header {
        op: Operation::Data.number(),
        len: 5,
        ..request()
    };
    let mut bytes = data.to_bytes().to_vec();
    bytes.extend(b"hello, and what the length leaves out");
    for (address, len, _) in pieces {
        let len = bytes.len().min(len as usize);
        let piece: Vec<u8> = bytes.drain(..len).collect();
        world
            .mem
            .write_slice(&piece, GuestAddress(address))
            .unwrap();
    }
    world.pump().unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap_err();
    assert_eq!(received, b"hello");
}

#[test]
fn buffer_without_a_packet_for_it_stays_available() {
    let mut world = World::new(&[(BUFFERS, 4096, WRITE)], &[]);
    assert_eq!(world.pump().unwrap(), Signals::default());
    world.muxer.receive(&request(), &[]);
    let mut stream = accept(&world.owner);
    stream.write_all(b"early").unwrap();
    assert!(world.pump().unwrap().rx);
    assert_eq!(world.header_at(BUFFERS).op, Operation::Response.number());
}

#[test]
fn chains_that_are_no_packets_are_given_back() {
    let outside = MEMORY_LEN as u64;
    for (rx, tx) in [
        ((BUFFERS, 10, WRITE), (BUFFERS, 10, 0)),
        ((outside, 4096, WRITE), (outside, 4096, 0)),
        ((BUFFERS, 4096, 0), (BUFFERS, 4096, WRITE)),
        ((u64::MAX - 5, 4096, WRITE), (u64::MAX - 5, 4096, 0)),
    ] {
        let mut world = World::new(&[rx], &[tx]);
        world.muxer.receive(&Header { op: 5, ..request() }, &[]);
        assert!(world.muxer.has_outgoing());
        let signals = world.pump().unwrap();
        assert_eq!(signals, Signals { rx: true, tx: true });
        assert!(world.muxer.has_outgoing(), "the packet still waits");
    }
}

#[test]
fn payload_shorter_than_the_header_says_is_dropped() {
    let mut world = World::new(&[], &[(BUFFERS, HEADER_BYTES + 4, 0)]);
    let lie = Header {
        op: Operation::Data.number(),
        len: u32::MAX,
        ..request()
    };
    world
        .mem
        .write_slice(&lie.to_bytes(), GuestAddress(BUFFERS))
        .unwrap();
    assert!(world.pump().unwrap().tx);
    assert!(!world.muxer.has_outgoing());
}

fn piece() -> impl Strategy<Value = Piece> {
    let address = prop_oneof![4 => 0..MEMORY_LEN as u64, 1 => any::<u64>()];
    let len = prop_oneof![4 => 0..5000u32, 1 => any::<u32>()];
    (address, len, 0..8u16)
}

proptest! {
    #[test]
    fn any_chains_are_survived(
        rx in proptest::collection::vec(piece(), 1..15),
        tx in proptest::collection::vec(piece(), 1..15),
        noise in proptest::collection::vec(any::<u8>(), 4096),
    ) {
        let mut world = World::new(&rx, &tx);
        for (address, ..) in &tx {
            // Not over the rings: they are the other half of the test.
            if (BUFFERS..MEMORY_LEN as u64 - 4096).contains(address) {
                world.mem.write_slice(&noise, GuestAddress(*address)).unwrap();
            }
        }
        world.muxer.receive(&request(), &[]);
        for _ in 0..3 {
            // A broken ring is an error of the guest, nothing else.
            drop(world.pump());
        }
    }
}
