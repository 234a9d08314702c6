//! Hostile rings: how much of them each device does in one turn, counted.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, FileOffset, GuestAddress};
use vmm_sys_util::tempfile::TempFile;

use super::*;
use crate::virtio::balloon::Balloon;
use crate::virtio::block::{Access, Block};
use crate::virtio::console::Console;
use crate::virtio::device::VirtioDevice;
use crate::virtio::guest_ring::{Counting, GuestRing, INDIRECT, NEXT, RING_BYTES, WRITE, active};
use crate::virtio::net::{Backing, Datapath, Net, Offloads};
use crate::virtio::rng::Rng;
use crate::virtio::vsock::muxer::Muxer;
use crate::virtio::vsock::pump::{Rings, pump};

const MEM_LEN: usize = 2 << 20;
/// Where buffers are.
const DATA_AT: u64 = 1 << 20;
const DATA_LEN: u32 = 1 << 20;
/// Entries of a ring that is full at once: many turns.
const LEN: u16 = 1024;

/// Guest memory in a file, all of it there.
fn memory() -> (Arc<File>, GuestMemoryMmap) {
    let file = TempFile::new().unwrap().into_file();
    file.set_len(MEM_LEN as u64).unwrap();
    let file = Arc::new(file);
    let backing = FileOffset::from_arc(Arc::clone(&file), 0);
    let mem = GuestMemoryMmap::from_ranges_with_files([(GuestAddress(0), MEM_LEN, Some(backing))]);
    let mem = mem.unwrap();
    mem.write_slice(&vec![0; MEM_LEN], GuestAddress(0)).unwrap();
    (file, mem)
}

/// Rings `0..count`, of which `full` has the chain at descriptor 0 in every entry.
fn rings(mem: &GuestMemoryMmap, count: u64, full: u64) -> Vec<GuestRing> {
    let rings = (0..count).map(|number| GuestRing::new(mem, number * RING_BYTES, LEN));
    let rings: Vec<_> = rings.collect();
    rings[usize::try_from(full).unwrap()].fill_with(0);
    rings
}

/// A chain of `count` descriptors with the same buffer, from descriptor 0 on.
fn chain_of(ring: &GuestRing, count: u16, len: u32, flags: u16) {
    for index in 0..count {
        let more = if index + 1 == count { 0 } else { NEXT };
        let descriptor = Descriptor::new(DATA_AT, len, flags | more, index + 1);
        ring.describe(index, descriptor);
    }
}

/// Serves the full ring `queue` of `device` to its end; returns how many chains came
/// back in each turn.
fn turns(device: &mut dyn VirtioDevice, rings: &[GuestRing], queue: u16) -> Vec<u16> {
    let mut events = Counting::default();
    let all: Vec<&GuestRing> = rings.iter().collect();
    let ring = all[usize::from(queue)];
    device.activate(active(&all, 0), &mut events).unwrap();
    events.take_turns();
    let mut before = ring.used();
    let mut turns = Vec::new();
    loop {
        device.queue_ready(queue, &mut events).unwrap();
        turns.push(ring.used() - before);
        before = ring.used();
        match events.take_turns() {
            0 => return turns,
            1 => assert!(turns.len() < 2000, "it comes again for ever"),
            more => panic!("{more} more turns were asked for"),
        }
    }
}

/// As many turns as a full ring needs, and one that finds it empty.
fn all_turns() -> Vec<u16> {
    let chains = u16::try_from(TURN_CHAINS).unwrap();
    let mut turns = vec![chains; usize::from(LEN / chains)];
    turns.push(0);
    turns
}

fn console() -> (File, Console) {
    let output = TempFile::new().unwrap().into_file();
    let console = Console::new(output.try_clone().unwrap().into()).unwrap();
    (output, console)
}

#[test]
fn a_full_ring_of_short_chains_takes_many_turns() {
    let (_file, mem) = memory();
    let console_rings = rings(&mem, 2, 1);
    chain_of(&console_rings[1], 1, 1, 0);
    assert_eq!(turns(&mut console().1, &console_rings, 1), all_turns());
    let rng_rings = rings(&mem, 1, 0);
    chain_of(&rng_rings[0], 1, 64, WRITE);
    assert_eq!(turns(&mut Rng::default(), &rng_rings, 0), all_turns());
    let balloon_rings = rings(&mem, 3, 1);
    assert_eq!(
        turns(&mut Balloon::default(), &balloon_rings, 1),
        all_turns()
    );
}

#[test]
fn the_console_takes_the_beginning_of_a_long_chain() {
    let (_file, mem) = memory();
    let rings = rings(&mem, 2, 1);
    // 128 MiB a chain.
    chain_of(&rings[1], 128, DATA_LEN, 0);
    rings[1].announce(1);
    let (output, mut console) = console();
    assert_eq!(turns(&mut console, &rings, 1), [1]);
    assert_eq!(output.metadata().unwrap().len(), 64 * 1024);
}

#[test]
fn no_device_follows_a_table() {
    let (_file, mem) = memory();
    let rings = rings(&mem, 3, 1);
    let (output, console) = console();
    let devices: [Box<dyn VirtioDevice>; 3] = [
        Box::new(console),
        Box::new(Rng::default()),
        Box::new(Balloon::default()),
    ];
    for (queue, mut device) in [1, 0, 0].into_iter().zip(devices) {
        let ring = &rings[usize::from(queue)];
        // 2,048 descriptors of 1 MiB.
        ring.describe(0, Descriptor::new(DATA_AT, 2048 * 16, INDIRECT, 0));
        ring.fill_with(0);
        let mut events = Counting::default();
        let all: Vec<&GuestRing> = rings.iter().collect();
        device.activate(active(&all, 0), &mut events).unwrap();
        let broken = device.queue_ready(queue, &mut events).unwrap_err();
        assert!(matches!(broken, Error::Queue(_)), "{broken}");
        assert_eq!(ring.used(), 0);
    }
    assert_eq!(output.metadata().unwrap().len(), 0);
}

#[test]
fn the_balloon_takes_256_numbers_of_a_chain() {
    let (file, mem) = memory();
    let rings = rings(&mem, 3, 0);
    // Each page of the buffers once, and page 0 between them, so that none adjoin.
    for index in 0..512_u32 {
        let number = if index % 2 == 0 { 0 } else { 256 + index / 2 };
        mem.write_obj(
            number.to_le(),
            GuestAddress(0x6_0000 + u64::from(index) * 4),
        )
        .unwrap();
    }
    rings[0].describe(0, Descriptor::new(0x6_0000, 2048, 0, 0));
    rings[0].announce(1);
    let before = file.metadata().unwrap().blocks();
    turns(&mut Balloon::default(), &rings, 0);
    let given = before - file.metadata().unwrap().blocks();
    // 128 pages of buffers and page 0.
    assert_eq!(given, 129 * 4096 / 512);
}

#[test]
fn a_turn_of_the_balloon_ends_with_much_memory_given_back() {
    let (_file, mem) = memory();
    let rings = rings(&mem, 3, 2);
    // 128 MiB a chain, over and over.
    chain_of(&rings[2], 128, DATA_LEN, WRITE);
    let turns = turns(&mut Balloon::default(), &rings, 2);
    assert_eq!(turns.iter().max(), Some(&1));
}

#[test]
fn a_turn_of_a_disk_ends_with_a_flush_or_with_much_data() {
    let (_file, mem) = memory();
    let rings = rings(&mem, 1, 0);
    let image = TempFile::new().unwrap().into_file();
    image.set_len(32 << 20).unwrap();
    let mut disk = Block::new(image, Access::ReadWrite, "").unwrap();
    let header = |kind: u32| mem.write_obj(kind.to_le(), GuestAddress(DATA_AT)).unwrap();
    header(4);
    rings[0].describe(0, Descriptor::new(DATA_AT, 16, NEXT, 1));
    rings[0].describe(1, Descriptor::new(DATA_AT + 32, 1, WRITE, 0));
    rings[0].announce(3);
    assert_eq!(turns(&mut disk, &rings, 0), [1, 1, 1, 0], "flushes");

    let rings = self::rings(&mem, 1, 0);
    header(0);
    rings[0].describe(0, Descriptor::new(DATA_AT, 16, NEXT, 1));
    for index in 1..9 {
        let data = Descriptor::new(DATA_AT + 4096, 512 * 1024, WRITE | NEXT, index + 1);
        rings[0].describe(index, data);
    }
    rings[0].describe(9, Descriptor::new(DATA_AT + 32, 1, WRITE, 0));
    rings[0].announce(5);
    assert_eq!(turns(&mut disk, &rings, 0), [2, 2, 1], "4 MiB each");
    assert_eq!(mem.read_obj::<u8>(GuestAddress(DATA_AT + 32)).unwrap(), 0);
}

#[test]
fn packets_of_the_guest_take_turns() {
    let (_file, mem) = memory();
    let rings = rings(&mem, 2, 1);
    chain_of(&rings[1], 1, 64, 0);
    let (tap, far) = UnixDatagram::pair().unwrap();
    tap.set_nonblocking(true).unwrap();
    let offloads = Offloads::none();
    let mut net = Net::with_offloads(
        vec![tap.into()],
        [2; 6],
        Backing {
            datapath: Datapath::Userspace,
            offloads,
        },
    )
    .unwrap();
    assert_eq!(turns(&mut net, &rings, 1)[1..], all_turns()[2..]);
    drop(far);
}

#[test]
fn buffers_for_packets_are_looked_at_in_turns() {
    let (_file, mem) = memory();
    let rings = rings(&mem, 2, 0);
    // 127 descriptors of no use, and 12 bytes of room.
    chain_of(&rings[0], 127, 1, 0);
    rings[0].describe(126, Descriptor::new(DATA_AT, 1, NEXT, 127));
    rings[0].describe(127, Descriptor::new(DATA_AT, 12, WRITE, 0));
    let (tap, far) = UnixDatagram::pair().unwrap();
    tap.set_nonblocking(true).unwrap();
    for _ in 0..5 {
        far.send(&[1; 12]).unwrap();
    }
    let offloads = Offloads::none();
    let mut net = Net::with_offloads(
        vec![tap.into()],
        [2; 6],
        Backing {
            datapath: Datapath::Userspace,
            offloads,
        },
    )
    .unwrap();
    let mut events = Counting::default();
    let all: Vec<&GuestRing> = rings.iter().collect();
    let mergeable = 1 << virtio_bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;
    net.activate(active(&all, mergeable), &mut events).unwrap();
    assert_eq!(rings[0].used(), 0, "64 chains were looked at, none filled");
}

#[test]
fn vsock_packets_take_turns() {
    let (_file, mem) = memory();
    let rings = rings(&mem, 2, 1);
    chain_of(&rings[1], 1, 44, 0);
    let flags = SockFlag::SOCK_CLOEXEC;
    let (device, owner) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
    let mut muxer = Muxer::new(3, device).unwrap();
    let (mut rx, mut tx) = (rings[0].queue(), rings[1].queue());
    for turn in 1..=3_u16 {
        let (rx, tx) = (&mut rx, &mut tx);
        pump(&mut muxer, &mut Rings { mem: &mem, rx, tx }).unwrap();
        assert_eq!(
            usize::from(rings[1].used()),
            usize::from(turn) * TURN_CHAINS
        );
        let mut fds = [PollFd::new(
            std::os::fd::AsFd::as_fd(&muxer),
            PollFlags::POLLIN,
        )];
        assert_eq!(poll(&mut fds, PollTimeout::ZERO), Ok(1), "it comes again");
    }
    drop(owner);
}
