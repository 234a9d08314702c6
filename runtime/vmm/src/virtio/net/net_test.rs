//! The device over a socket pair that keeps packets apart as a tap does.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use proptest::prelude::*;
use virtio_bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;
use virtio_queue::desc::{RawDescriptor, split::Descriptor};
use virtio_queue::mock::MockSplitQueue;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::frame::HEADER_LEN;
use super::*;
use crate::virtio::device::Interrupt;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const DATA_AT: u64 = 0x1_0000;
const RX: u16 = 0;
const TX: u16 = 1;

struct Nobody;

impl Interrupt for Nobody {
    fn queue_used(&self, _queue: u16) {}
    fn config_changed(&self) {}
}

impl Events for Nobody {
    fn watch(&mut self, _: BorrowedFd<'_>, _: EventSet, _: u32) -> io::Result<()> {
        Ok(())
    }
    fn rewatch(&mut self, _: BorrowedFd<'_>, _: EventSet, _: u32) -> io::Result<()> {
        Ok(())
    }
    fn unwatch(&mut self, _: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }
    fn come_again(&mut self, _: u16) -> io::Result<()> {
        Ok(())
    }
}

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x8_0000)]).unwrap()
}

/// An active device with one queue filled, and the far end of its tap.
fn device(
    mem: &GuestMemoryMmap,
    queue: u16,
    chains: &[Vec<Descriptor>],
    features: u64,
) -> (Net, UnixDatagram) {
    let (tap, far) = UnixDatagram::pair().unwrap();
    tap.set_nonblocking(true).unwrap();
    far.set_nonblocking(true).unwrap();
    let ring = MockSplitQueue::new(mem, 16);
    let raw: Vec<RawDescriptor> = chains
        .iter()
        .flatten()
        .copied()
        .map(RawDescriptor::from)
        .collect();
    ring.add_desc_chains(&raw, 0).unwrap();
    let filled: Queue = ring.create_queue().unwrap();
    let other: Queue = MockSplitQueue::create(mem, GuestAddress(0x4000), 16)
        .create_queue()
        .unwrap();
    let queues = if queue == RX {
        vec![filled, other]
    } else {
        vec![other, filled]
    };
    let active = ActiveQueues {
        mem: mem.clone(),
        queues,
        features,
        interrupt: Arc::new(Nobody),
    };
    let mut pair = QueuePair::new(tap.into());
    pair.start(0, &active, &mut Nobody).unwrap();
    pair.used = true;
    let net = Net {
        config: config([2; 6], 1),
        queue_sizes: vec![QUEUE_LEN; 2],
        offloads: Offloads::none(),
        pairs: vec![pair],
        vhost_net: None,
        active: Some(active),
    };
    (net, far)
}

/// The used ring of the receive queue: lengths in order.
fn used(net: &Net) -> Vec<u32> {
    let active = net.active.as_ref().unwrap();
    let at = active.queues[usize::from(RX)].used_ring();
    let count: u16 = active.mem.read_obj(GuestAddress(at + 2)).unwrap();
    (0..u64::from(count))
        .map(|n| active.mem.read_obj(GuestAddress(at + 8 + 8 * n)).unwrap())
        .collect()
}

/// Buffers of `BUFFER_LEN` bytes, enough for one packet of any length and a few more.
fn buffers() -> Vec<Vec<Descriptor>> {
    let place = |n: u64| DATA_AT + n * u64::from(BUFFER_LEN);
    let buffer = |n| vec![Descriptor::new(place(n), BUFFER_LEN, WRITE, 0)];
    (0..16).map(buffer).collect()
}

const BUFFER_LEN: u32 = 0x1400;

#[test]
fn a_packet_goes_over_as_many_buffers_as_it_needs_and_the_rest_stays() {
    let mem = memory();
    let (mut net, far) = device(&mem, RX, &buffers(), 1 << VIRTIO_NET_F_MRG_RXBUF);
    let packet: Vec<u8> = (0..0x1500_u32).map(|n| n.to_le_bytes()[0]).collect();
    far.send(&packet).unwrap();
    net.queue_ready(RX, &mut Nobody).unwrap();
    assert_eq!(used(&net), [0x1400, 0x100]);
    let mut first = [0; 0x1400];
    mem.read_slice(&mut first, GuestAddress(DATA_AT)).unwrap();
    assert_eq!(first[10..12], [2, 0]);
    assert_eq!(first[12..], packet[12..0x1400]);
    let mut second = [0; 0x100];
    let at = GuestAddress(DATA_AT + u64::from(BUFFER_LEN));
    mem.read_slice(&mut second, at).unwrap();
    assert_eq!(second, packet[0x1400..]);
    // Buffers that stayed empty are for the next packet.
    far.send(&packet[..0x80]).unwrap();
    net.queue_ready(RX, &mut Nobody).unwrap();
    assert_eq!(used(&net), [0x1400, 0x100, 0x80]);
}

/// The guest takes no long packets, but the MTU may be any.
#[test]
fn a_long_frame_is_not_cut_off() {
    let mem = memory();
    let (mut net, far) = device(&mem, RX, &buffers(), 1 << VIRTIO_NET_F_MRG_RXBUF);
    far.send(&[9; HEADER_LEN + 18 + 9000]).unwrap();
    net.queue_ready(RX, &mut Nobody).unwrap();
    let rest = u32::try_from(HEADER_LEN + 18 + 9000).unwrap() - BUFFER_LEN;
    assert_eq!(used(&net), [BUFFER_LEN, rest]);
}

#[test]
fn too_few_buffers_hold_no_part_of_a_packet() {
    let mem = memory();
    let few = &buffers()[..2];
    let (mut net, far) = device(&mem, RX, few, 1 << VIRTIO_NET_F_MRG_RXBUF);
    far.send(&[9; 100]).unwrap();
    net.queue_ready(RX, &mut Nobody).unwrap();
    assert!(used(&net).is_empty());
    assert_eq!(net.pairs[0].interest(), Some(EventSet::empty()));
}

#[test]
fn a_guest_without_buffers_stops_the_tap_until_it_has_some() {
    let mem = memory();
    let (mut net, far) = device(&mem, RX, &[], 1 << VIRTIO_NET_F_MRG_RXBUF);
    far.send(&[7; 100]).unwrap();
    net.ready(0, EventSet::IN, &mut Nobody).unwrap();
    assert_eq!(net.pairs[0].interest(), Some(EventSet::empty()));
    // It is still there for later.
    assert!(used(&net).is_empty());
}

#[test]
fn what_the_guest_sends_leaves_in_one_piece() {
    let mem = memory();
    mem.write_slice(&[5; 64], GuestAddress(DATA_AT)).unwrap();
    let chain = vec![
        Descriptor::new(DATA_AT, 12, NEXT, 1),
        Descriptor::new(DATA_AT + 12, 52, 0, 0),
    ];
    let (mut net, far) = device(&mem, TX, &[chain], 0);
    net.queue_ready(TX, &mut Nobody).unwrap();
    let mut packet = [0; 100];
    assert_eq!(far.recv(&mut packet).unwrap(), 64);
    assert_eq!(packet[..64], [5; 64]);
}

proptest! {
    /// Any descriptors in either queue: an answer or the guest's fault, never a panic.
    #[test]
    fn arbitrary_chains_are_survived(
        descriptors in prop::collection::vec(
            (0_u64..0x9_0000, 0_u32..0x2_0000, 0_u16..4, 0_u16..20),
            1..8,
        ),
        queue in 0_u16..2,
        features: u64,
    ) {
        let mem = memory();
        let chain: Vec<_> = descriptors
            .into_iter()
            .map(|(address, len, flags, next)| Descriptor::new(address, len, flags, next))
            .collect();
        let (mut net, far) = device(&mem, queue, &[chain], features);
        far.send(&[1; 3000]).unwrap();
        match net.queue_ready(queue, &mut Nobody) {
            Ok(()) | Err(Error::Guest(_) | Error::Queue(_)) => {}
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}
