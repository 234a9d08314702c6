//! Each device alone, with rings that a hostile guest filled: tables, offers and
//! announcements are whatever the bytes say, mostly near what makes sense.
//!
//! Beside panics, work beyond a turn is a finding.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixDatagram;

use arbitrary::{Result, Unstructured};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use virtio_bindings::virtio_net::{VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::QueueT;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::tempfile::TempFile;

use crate::virtio::balloon::Balloon;
use crate::virtio::block::{Access, Block};
use crate::virtio::console::Console;
use crate::virtio::device::{Error, VirtioDevice};
use crate::virtio::guest_ring::{Counting, GuestRing, NEXT, RING_BYTES, WRITE, active};
use crate::virtio::net::{Backing, Datapath, Net, Offloads};
use crate::virtio::rng::Rng;
use crate::virtio::turn::TURN_CHAINS;
use crate::virtio::vsock::device::Vsock;

/// Two regions of memory, with a gap between.
const REGION_LEN: usize = 1 << 20;
const SECOND_AT: u64 = 4 << 20;
const RING_LEN: u16 = 256;
/// Chains that come back in one turn at most: a network interface gives back whole
/// packets, of up to 1,024 buffers each.
const MAX_USED: usize = TURN_CHAINS * 1024;

/// Pages given back to the host.
pub fn balloon_queues(bytes: &[u8]) {
    with(bytes, 3, |_| Ok(Box::new(Balloon::default())));
}

/// A disk of 1 MiB.
pub fn block_queues(bytes: &[u8]) {
    with(bytes, 1, |access| {
        let image = file(REGION_LEN)?;
        let access = Access::read_only(access);
        let block = Block::new(image, access, "serial").map_err(io::Error::other)?;
        Ok(Box::new(block))
    });
}

/// Output to nowhere.
pub fn console_queues(bytes: &[u8]) {
    with(bytes, 2, |_| {
        let nowhere = File::options().write(true).open("/dev/null")?;
        Ok(Box::new(Console::new(nowhere.into())?))
    });
}

/// Random numbers.
pub fn rng_queues(bytes: &[u8]) {
    with(bytes, 1, |_| Ok(Box::new(Rng::default())));
}

/// Streams, of which the owner takes none.
pub fn vsock_queues(bytes: &[u8]) {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags);
    let Ok((device_end, owner)) = pair else {
        return;
    };
    with(bytes, 3, |_| Ok(Box::new(Vsock::new(3, device_end)?)));
    drop(owner);
}

/// Two pairs of queues over sockets that keep packets apart as taps do, and commands.
pub fn net_queues(bytes: &[u8]) {
    let pairs = [UnixDatagram::pair(), UnixDatagram::pair()];
    let [Ok((tap, far)), Ok((other_tap, other_far))] = pairs else {
        return;
    };
    let ends = [&tap, &far, &other_tap, &other_far];
    if ends.iter().any(|end| end.set_nonblocking(true).is_err()) {
        return;
    }
    for packet in [&[1; 12][..], &[2; 100], &[3; 9000]] {
        far.send(packet).unwrap_or(0);
        other_far.send(packet).unwrap_or(0);
    }
    with(bytes, 5, |_| {
        let means = Backing {
            datapath: Datapath::Userspace,
            offloads: Offloads::none(),
        };
        let taps = vec![tap.into(), other_tap.into()];
        let net = Net::with_offloads(taps, [2; 6], means).map_err(io::Error::other)?;
        Ok(Box::new(net))
    });
}

/// A device, its rings, and what it asked of the event loop.
struct World {
    mem: GuestMemoryMmap,
    rings: Vec<GuestRing>,
    device: Box<dyn VirtioDevice>,
    events: Counting,
}

/// Tries the device that `make` makes, in one of two ways, with so many rings.
fn with(bytes: &[u8], rings: u64, make: impl FnOnce(bool) -> io::Result<Box<dyn VirtioDevice>>) {
    let mut bytes = Unstructured::new(bytes);
    let way = bytes.arbitrary().unwrap_or(false);
    // Without descriptors or memory there is nothing to try.
    let (Ok(mem), Ok(device)) = (memory(), make(way)) else {
        return;
    };
    let rings = (0..rings).map(|number| GuestRing::new(&mem, number * RING_BYTES, RING_LEN));
    let mut world = World {
        rings: rings.collect(),
        mem,
        device,
        events: Counting::default(),
    };
    if world.activate(&mut bytes).is_ok() {
        while !bytes.is_empty() && world.step(&mut bytes).is_ok() {}
    }
    world.device.reset(&mut world.events);
}

/// How a step ended early: the bytes did, or the guest broke the device.
struct Over;

impl From<arbitrary::Error> for Over {
    fn from(_: arbitrary::Error) -> Self {
        Self
    }
}

impl World {
    fn activate(&mut self, bytes: &mut Unstructured<'_>) -> std::result::Result<(), Over> {
        let mut features = 0;
        for bit in [
            VIRTIO_NET_F_MRG_RXBUF,
            VIRTIO_NET_F_MQ,
            VIRTIO_NET_F_CTRL_VQ,
            VIRTIO_RING_F_EVENT_IDX,
        ] {
            features |= u64::from(bytes.arbitrary::<bool>()?) << bit;
        }
        let rings: Vec<&GuestRing> = self.rings.iter().collect();
        let mut active = active(&rings, features);
        for queue in &mut active.queues {
            queue.set_event_idx(features >> VIRTIO_RING_F_EVENT_IDX & 1 == 1);
        }
        judge(self.device.activate(active, &mut self.events))
    }

    fn step(&mut self, bytes: &mut Unstructured<'_>) -> std::result::Result<(), Over> {
        let queue = bytes.choose_index(self.rings.len())?;
        let ring = self.rings.get(queue).ok_or(Over)?;
        match bytes.int_in_range(0..=7)? {
            0..=2 => {
                let index = bytes.int_in_range(0..=RING_LEN - 1)?;
                ring.describe(index, descriptor(bytes)?);
                ring.offer(bytes.int_in_range(0..=RING_LEN - 1)?, index);
            }
            3 => ring.offer(bytes.int_in_range(0..=RING_LEN - 1)?, bytes.arbitrary()?),
            4 => {
                let at = GuestAddress(address(bytes)?);
                let content: [u8; 16] = bytes.arbitrary()?;
                // Outside of memory, nothing is written.
                self.mem.write_slice(&content, at).unwrap_or_default();
            }
            5 => {
                let count = ring.used().wrapping_add(bytes.int_in_range(0..=RING_LEN)?);
                ring.announce(count);
            }
            6 => {
                let token = bytes.int_in_range(0..=2)?;
                let ready = self.device.ready(token, EventSet::IN, &mut self.events);
                judge(ready)?;
            }
            _ => {
                let before = ring.used();
                let queue = u16::try_from(queue).unwrap_or(0);
                let served = self.device.queue_ready(queue, &mut self.events);
                let done = ring.used().wrapping_sub(before);
                assert!(usize::from(done) <= MAX_USED, "{done} chains in a turn");
                assert!(self.events.take_turns() <= self.rings.len());
                judge(served)?;
            }
        }
        Ok(())
    }
}

/// The guest may break its device. Nothing of the host's is gone, so that no device may
/// say so.
fn judge(outcome: std::result::Result<(), Error>) -> std::result::Result<(), Over> {
    match outcome {
        Ok(()) => Ok(()),
        Err(Error::Guest(_) | Error::Queue(_)) => Err(Over),
        Err(error @ Error::Host { .. }) => unreachable!("the host is blamed: {error:?}"),
    }
}

fn descriptor(bytes: &mut Unstructured<'_>) -> Result<Descriptor> {
    let len = match bytes.int_in_range(0..=3)? {
        0 => bytes.arbitrary()?,
        1 => bytes.int_in_range(0..=64)?,
        _ => bytes.int_in_range(0..=0x2_0000)?,
    };
    let flags = match bytes.int_in_range(0..=15)? {
        0 => bytes.arbitrary()?,
        flags => flags & (NEXT | WRITE),
    };
    let next = bytes.int_in_range(0..=RING_LEN)?;
    Ok(Descriptor::new(address(bytes)?, len, flags, next))
}

fn address(bytes: &mut Unstructured<'_>) -> Result<u64> {
    let base = *bytes.choose(&[0, 0x8_0000, REGION_LEN as u64, SECOND_AT, u64::MAX])?;
    let offset = bytes.int_in_range(0..=0x8_0000_u64)?;
    Ok(base.saturating_add(offset))
}

fn memory() -> io::Result<GuestMemoryMmap> {
    let file = std::sync::Arc::new(file(2 * REGION_LEN)?);
    let backing = |at: usize| FileOffset::from_arc(file.clone(), at as u64);
    let regions = [
        (GuestAddress(0), REGION_LEN, Some(backing(0))),
        (
            GuestAddress(SECOND_AT),
            REGION_LEN,
            Some(backing(REGION_LEN)),
        ),
    ];
    GuestMemoryMmap::from_ranges_with_files(regions).map_err(io::Error::other)
}

fn file(len: usize) -> io::Result<File> {
    let file = TempFile::new().map_err(io::Error::from)?.into_file();
    file.set_len(len as u64)?;
    Ok(file)
}
