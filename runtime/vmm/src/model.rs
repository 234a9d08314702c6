//! A machine without KVM, for tests and fuzz targets: register files, slots and devices
//! of every kind, wired as `assembly` does it, and driven by calls in place of vCPUs.
//!
//! Owns the far ends of the devices too. What it is asked to write is whatever a guest
//! could write.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::Arc;
use std::thread;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_DRIVER_FEATURES, VIRTIO_MMIO_DRIVER_FEATURES_SEL, VIRTIO_MMIO_QUEUE_AVAIL_LOW,
    VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_NUM, VIRTIO_MMIO_QUEUE_READY,
    VIRTIO_MMIO_QUEUE_SEL, VIRTIO_MMIO_QUEUE_USED_LOW, VIRTIO_MMIO_STATUS,
};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::tempfile::TempFile;

use crate::arch::{SLOT_LEN, SLOTS_BASE};
use crate::bus::Bus;
use crate::eventfds::Eventfds;
use crate::poller::{Poller, Source};
use crate::slots::{Slot, Slots};
use crate::virtio::balloon::Balloon;
use crate::virtio::block::{Access, Block};
use crate::virtio::console::Console;
use crate::virtio::device::{Error, VirtioDevice};
use crate::virtio::fs::{self, Fs};
use crate::virtio::guest_ring::{GuestRing, RING_BYTES};
use crate::virtio::mmio::{Effect, Identity, MmioInterrupt, RegisterWindow, Registers};
use crate::virtio::net::{Backing, Datapath, Net, Offloads};
use crate::virtio::rng::Rng;
use crate::virtio::vsock::device::Vsock;

/// Bytes of guest memory.
pub(crate) const MEM_LEN: usize = 4 << 20;
/// Bytes from here on are free for buffers.
pub(crate) const DATA_AT: u64 = 2 << 20;
/// Entries of the rings that [`Model::bring_up`] makes.
pub(crate) const RING_LEN: u16 = 8;
/// Queues of a slot at most.
const QUEUES: usize = 4;

/// The kinds of devices, in the order of their slots.
pub(crate) const KINDS: [&str; 7] = ["fs", "vsock", "console", "rng", "balloon", "block", "net"];

/// The machine.
pub(crate) struct Model {
    pub(crate) mem: GuestMemoryMmap,
    bus: Arc<Bus>,
    slots: Slots,
    poller: Poller,
    kicks: Vec<Vec<EventFd>>,
    #[cfg_attr(
        not(feature = "fuzz"),
        expect(dead_code, reason = "tests only keep them open")
    )]
    far: Far,
}

/// The far ends of devices.
#[cfg_attr(
    not(feature = "fuzz"),
    expect(dead_code, reason = "tests only keep them open")
)]
#[derive(Debug)]
pub(crate) struct Far {
    /// Of the network interface's tap.
    pub(crate) network: UnixDatagram,
    /// Of the vsock device's channel.
    pub(crate) channel: UnixDatagram,
}

impl Model {
    /// A machine with one device of each of [`KINDS`].
    pub(crate) fn new() -> io::Result<Self> {
        let file = TempFile::new().map_err(io::Error::from)?.into_file();
        file.set_len(MEM_LEN as u64)?;
        let backing = FileOffset::new(file, 0);
        let mem = [(GuestAddress(0), MEM_LEN, Some(backing))];
        let mem = GuestMemoryMmap::from_ranges_with_files(mem).map_err(io::Error::other)?;
        let window = RegisterWindow::new(KINDS.len()).map_err(io::Error::other)?;
        let (network, tap) = UnixDatagram::pair()?;
        network.set_nonblocking(true)?;
        tap.set_nonblocking(true)?;
        let flags = SockFlag::SOCK_CLOEXEC;
        let (channel, device_end) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        let console = TempFile::new().map_err(io::Error::from)?.into_file();
        let image = TempFile::new().map_err(io::Error::from)?.into_file();
        image.set_len(1 << 20)?;
        let means = Backing {
            datapath: Datapath::Userspace,
            offloads: Offloads::none(),
        };
        let net = Net::with_offloads(vec![tap.into()], [2; 6], means).map_err(io::Error::other)?;
        let devices: Vec<Box<dyn VirtioDevice>> = vec![
            Box::new(file_system()?),
            Box::new(Vsock::new(3, device_end)?),
            Box::new(Console::new(console.into())?),
            Box::new(Rng::default()),
            Box::new(Balloon::default()),
            Box::new(Block::new(image, Access::ReadWrite, "serial").map_err(io::Error::other)?),
            Box::new(net),
        ];
        let mut registers = Vec::new();
        let mut slots = Vec::new();
        let mut kicks = Vec::new();
        for (number, device) in devices.into_iter().enumerate() {
            let page = window.page(number).ok_or(io::ErrorKind::NotFound)?;
            registers.push(Registers::new(page.clone(), Identity::of(&*device)));
            let eventfds = eventfds(device.queue_sizes().len())?;
            kicks.push(eventfds.try_clone()?.kicks);
            let interrupt = Arc::new(MmioInterrupt::new(eventfds.irqfd, page));
            slots.push(Slot::new(Some(device), eventfds.kicks, interrupt));
        }
        let bus = Arc::new(Bus::new(registers));
        Ok(Self {
            slots: Slots::new(slots, Arc::clone(&bus), mem.clone()),
            mem,
            bus,
            poller: Poller::new()?,
            kicks,
            far: Far {
                network,
                channel: channel.into(),
            },
        })
    }

    /// The slots, for an event loop.
    #[cfg(test)]
    pub(crate) fn into_slots(self) -> Slots {
        self.slots
    }

    /// What KVM signals when the guest notifies a queue.
    #[cfg(test)]
    pub(crate) fn kick_descriptor(&self, slot: usize, queue: usize) -> io::Result<EventFd> {
        let kick = self.kicks.get(slot).and_then(|kicks| kicks.get(queue));
        kick.ok_or(io::ErrorKind::NotFound)?.try_clone()
    }

    /// The far ends of devices.
    #[cfg(feature = "fuzz")]
    pub(crate) fn far(&self) -> &Far {
        &self.far
    }

    /// A vCPU writes `bytes` at `offset` of `slot`.
    pub(crate) fn write(&self, slot: usize, offset: u64, bytes: &[u8]) -> Option<Effect> {
        let address = SLOTS_BASE + SLOT_LEN * slot as u64 + offset;
        self.bus.write(address, bytes).map(|(_, effect)| effect)
    }

    /// A vCPU writes a register.
    pub(crate) fn write_register(&self, slot: usize, register: u32, value: u32) -> Option<Effect> {
        self.write(slot, register.into(), &value.to_le_bytes())
    }

    /// The ring of a queue, as [`Self::bring_up`] announces it.
    pub(crate) fn ring(&self, slot: usize, queue: usize) -> GuestRing {
        let number = (slot * QUEUES + queue) as u64;
        GuestRing::new(&self.mem, number * RING_BYTES, RING_LEN)
    }

    /// Does what a driver does up to `DRIVER_OK`, with empty rings.
    pub(crate) fn bring_up(&self, slot: usize) -> Option<Effect> {
        let write = |register, value| self.write_register(slot, register, value);
        write(VIRTIO_MMIO_STATUS, 1);
        write(VIRTIO_MMIO_STATUS, 3);
        // VERSION_1 and nothing else.
        write(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
        write(VIRTIO_MMIO_DRIVER_FEATURES, 1);
        write(VIRTIO_MMIO_STATUS, 0xb);
        for queue in 0..QUEUES {
            self.ring(slot, queue).announce(0);
            write(VIRTIO_MMIO_QUEUE_SEL, u32::try_from(queue).unwrap_or(0));
            write(VIRTIO_MMIO_QUEUE_NUM, RING_LEN.into());
            let base = (slot * QUEUES + queue) as u64 * RING_BYTES;
            let base = u32::try_from(base).unwrap_or(0);
            write(VIRTIO_MMIO_QUEUE_DESC_LOW, base);
            write(VIRTIO_MMIO_QUEUE_AVAIL_LOW, base + 0x4000);
            write(VIRTIO_MMIO_QUEUE_USED_LOW, base + 0x5000);
            write(VIRTIO_MMIO_QUEUE_READY, 1);
        }
        write(VIRTIO_MMIO_STATUS, 0xf)
    }

    /// The event loop applies an effect.
    pub(crate) fn apply(&mut self, slot: usize, effect: Effect) -> Result<(), Error> {
        self.slots.apply(slot, effect, &self.poller)
    }

    /// The guest notifies a queue.
    pub(crate) fn kick(&self, slot: usize, queue: usize) {
        let kick = self.kicks.get(slot).and_then(|kicks| kicks.get(queue));
        kick.map_or(Ok(()), |kick| kick.write(1))
            .unwrap_or_default();
    }

    /// The event loop serves what is ready by now, once; returns what that was.
    pub(crate) fn turn(&mut self) -> Result<Vec<Source>, Error> {
        let Self { poller, slots, .. } = self;
        let mut served = Vec::new();
        let turned = poller.look(|source, readiness| {
            served.push(source);
            match source {
                Source::Kick { slot, queue } => slots.kicked(slot, queue, poller),
                Source::Device { slot, token } => slots.ready(slot, token, readiness, poller),
                Source::Inbox | Source::Owner => Ok(()),
            }
        });
        turned.map(|()| served)
    }

    /// The epoch in which a device is active, and that of its registers.
    pub(crate) fn epochs(&self, slot: usize) -> (Option<u64>, Option<u64>) {
        let registers = self.bus.registers(slot);
        let present = registers.map(|registers| registers.epoch());
        (self.slots.active_epoch(slot), present)
    }
}

impl From<io::Error> for Error {
    fn from(source: io::Error) -> Self {
        Self::Host {
            part: "wait for the model's devices",
            source,
        }
    }
}

fn eventfds(queues: usize) -> io::Result<Eventfds> {
    let kicks: io::Result<Vec<_>> = (0..queues).map(|_| EventFd::new(EFD_NONBLOCK)).collect();
    Ok(Eventfds {
        kicks: kicks?,
        irqfd: EventFd::new(EFD_NONBLOCK)?,
    })
}

/// A file system device whose server agrees to everything and does nothing.
fn file_system() -> io::Result<Fs> {
    let (device_end, mut server_end) = UnixStream::pair()?;
    thread::Builder::new()
        .name("file server".into())
        // Ends with the connection.
        .spawn(move || while answer(&mut server_end).is_ok() {})?;
    let eventfds = eventfds(fs::QUEUE_SIZES.len())?;
    Fs::new("caisson", OwnedFd::from(device_end), eventfds).map_err(io::Error::other)
}

/// Reads one request of vhost-user; descriptors that come with it are dropped by the
/// kernel. Answers those that have to be, with zeros.
fn answer(server: &mut UnixStream) -> io::Result<()> {
    const GET_FEATURES: u32 = 1;
    const GET_VRING_BASE: u32 = 11;
    let mut header = [0; 12];
    server.read_exact(&mut header)?;
    let ([request, _, len], _) = header.as_chunks::<4>() else {
        return Ok(());
    };
    let len = usize::try_from(u32::from_le_bytes(*len)).unwrap_or(0);
    let mut body = vec![0; len];
    server.read_exact(&mut body)?;
    if [GET_FEATURES, GET_VRING_BASE].contains(&u32::from_le_bytes(*request)) {
        // Version 1, an answer, of 8 bytes.
        let mut answer = [*request, 5_u32.to_le_bytes(), 8_u32.to_le_bytes()].concat();
        answer.extend(body.get(..4).unwrap_or(&[0; 4]));
        answer.extend([0; 4]);
        server.write_all(&answer)?;
    }
    Ok(())
}
