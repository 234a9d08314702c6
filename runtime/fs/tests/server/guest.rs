//! A guest without a machine: memory in a file, two rings, and FUSE requests as
//! bytes, right or wrong. Owns what its kernel would write; asserts nothing.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use vhost::vhost_user::message::VhostUserVirtioFeatures;
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemory, GuestMemoryMmap};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Size of the guest's memory, in bytes.
pub(crate) const MEMORY: u64 = 16 << 20;
/// Descriptors in a ring.
pub(crate) const RING: u16 = 128;
/// The request ring; 0 is the one of high priority.
pub(crate) const REQUESTS: usize = 1;
/// Flags of a descriptor.
pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITABLE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;
/// Descriptors of one chain that [`Guest::ask`] makes.
const CHAIN: u16 = 4;
/// Where the buffers of chains begin, and how far apart they are.
const BUFFERS: u64 = 0x10_0000;
const BUFFER: u64 = 0x4_0000;
/// Safety limit for an answer, in milliseconds.
const PATIENCE_MS: i32 = 60_000;

/// Requests of FUSE.
pub(crate) mod op {
    pub(crate) const LOOKUP: u32 = 1;
    pub(crate) const FORGET: u32 = 2;
    pub(crate) const GETATTR: u32 = 3;
    pub(crate) const SYMLINK: u32 = 6;
    pub(crate) const MKDIR: u32 = 9;
    pub(crate) const UNLINK: u32 = 10;
    pub(crate) const RENAME: u32 = 12;
    pub(crate) const LINK: u32 = 13;
    pub(crate) const OPEN: u32 = 14;
    pub(crate) const READ: u32 = 15;
    pub(crate) const WRITE: u32 = 16;
    pub(crate) const SETXATTR: u32 = 21;
    pub(crate) const GETXATTR: u32 = 22;
    pub(crate) const LISTXATTR: u32 = 23;
    pub(crate) const INIT: u32 = 26;
    pub(crate) const OPENDIR: u32 = 27;
    pub(crate) const READDIR: u32 = 28;
    pub(crate) const CREATE: u32 = 35;
    pub(crate) const DESTROY: u32 = 38;
    pub(crate) const BATCH_FORGET: u32 = 42;
    pub(crate) const READDIRPLUS: u32 = 44;
    pub(crate) const COPY_FILE_RANGE: u32 = 47;
    pub(crate) const LAST: u32 = 52;
}

/// The node of the root.
pub(crate) const ROOT: u64 = 1;
/// `FUSE_SUBMOUNTS` among the flags of INIT.
pub(crate) const SUBMOUNTS: u32 = 1 << 27;

/// One descriptor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Descriptor {
    pub(crate) address: u64,
    pub(crate) len: u32,
    pub(crate) flags: u16,
    pub(crate) next: u16,
}

/// What came back of a chain.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Length on the used ring.
    pub(crate) len: u32,
    /// An errno, as a positive number; zero is none.
    pub(crate) error: i32,
    pub(crate) data: Vec<u8>,
}

/// A ring, as its driver knows it.
#[derive(Debug, Clone, Copy, Default)]
struct Ring {
    made: u16,
    seen: u16,
}

impl Ring {
    const fn table(index: usize) -> u64 {
        0x1000 + 0x4000 * index as u64
    }

    const fn available(index: usize) -> u64 {
        Self::table(index) + 0x1000
    }

    const fn used(index: usize) -> u64 {
        Self::table(index) + 0x2000
    }
}

/// The guest and the machine's end of the connection.
pub(crate) struct Guest {
    pub(crate) frontend: Frontend,
    pub(crate) memory: GuestMemoryMmap,
    rings: [Ring; 2],
    pub(crate) kicks: [EventFd; 2],
    calls: Epoll,
    call: EventFd,
    unique: u64,
    next_chain: u16,
    free_chains: Vec<u16>,
}

impl Guest {
    /// A guest that has set up its rings, and has not said INIT yet.
    pub(crate) fn attach(server: UnixStream) -> Self {
        let calls = Epoll::new().unwrap();
        let call = EventFd::new(EFD_NONBLOCK).unwrap();
        let watched = [
            (call.as_raw_fd(), EventSet::IN),
            (server.as_raw_fd(), EventSet::READ_HANG_UP),
        ];
        for (fd, events) in watched {
            let event = EpollEvent::new(events, u64::from(fd.unsigned_abs()));
            calls.ctl(ControlOperation::Add, fd, event).unwrap();
        }
        let file: OwnedFd =
            rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let file = File::from(file);
        file.set_len(MEMORY).unwrap();
        let size = usize::try_from(MEMORY).unwrap();
        let region = (GuestAddress(0), size, Some(FileOffset::new(file, 0)));
        let mut guest = Self {
            frontend: Frontend::from_stream(server, 2),
            memory: GuestMemoryMmap::from_ranges_with_files([region]).unwrap(),
            rings: [Ring::default(); 2],
            kicks: [(); 2].map(|()| EventFd::new(EFD_NONBLOCK).unwrap()),
            calls,
            call,
            unique: 0,
            next_chain: 0,
            free_chains: Vec::new(),
        };
        guest.set_up();
        guest
    }

    fn set_up(&mut self) {
        self.frontend.set_owner().unwrap();
        let offered = self.frontend.get_features().unwrap();
        // VERSION_1, EVENT_IDX, INDIRECT_DESC.
        let wanted =
            (1 << 32) | (1 << 29) | (1 << 28) | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        self.frontend.get_protocol_features().unwrap();
        self.frontend.set_features(offered & wanted).unwrap();
        let regions: Vec<_> = self
            .memory
            .iter()
            .map(|region| VhostUserMemoryRegionInfo::from_guest_region(region).unwrap())
            .collect();
        self.frontend.set_mem_table(&regions).unwrap();
        for index in 0..2 {
            self.start_ring(index);
        }
    }

    pub(crate) fn start_ring(&mut self, index: usize) {
        self.rings[index] = Ring::default();
        for offset in [Ring::available(index), Ring::used(index)] {
            self.memory.write_obj(0_u32, GuestAddress(offset)).unwrap();
        }
        self.resume_ring(index, 0);
    }

    /// Stops a ring, as a machine that is paused does; returns where it is to go on.
    pub(crate) fn pause_ring(&mut self, index: usize) -> u16 {
        self.frontend.set_vring_enable(index, false).unwrap();
        let next = self.frontend.get_vring_base(index).unwrap();
        u16::try_from(next).unwrap()
    }

    /// Starts a ring from entry `next` on, with a notification.
    pub(crate) fn resume_ring(&mut self, index: usize, next: u16) {
        let base = self.memory.iter().next().unwrap().as_ptr() as u64;
        let addresses = VringConfigData {
            queue_max_size: RING,
            queue_size: RING,
            flags: 0,
            desc_table_addr: base + Ring::table(index),
            used_ring_addr: base + Ring::used(index),
            avail_ring_addr: base + Ring::available(index),
            log_addr: None,
        };
        self.frontend.set_vring_num(index, RING).unwrap();
        self.frontend.set_vring_addr(index, &addresses).unwrap();
        self.frontend.set_vring_base(index, next).unwrap();
        self.frontend.set_vring_call(index, &self.call).unwrap();
        self.frontend
            .set_vring_kick(index, &self.kicks[index])
            .unwrap();
        self.frontend.set_vring_enable(index, true).unwrap();
        self.kicks[index].write(1).unwrap();
    }

    /// Writes a chain's descriptors from number `first` on.
    pub(crate) fn describe(&self, ring: usize, first: u16, descriptors: &[Descriptor]) {
        for (number, descriptor) in (first..).zip(descriptors) {
            let at = Ring::table(ring) + u64::from(number) * 16;
            let Descriptor {
                address,
                len,
                flags,
                next,
            } = *descriptor;
            let rest = u64::from(len) | u64::from(flags) << 32 | u64::from(next) << 48;
            self.memory.write_obj(address, GuestAddress(at)).unwrap();
            self.memory.write_obj(rest, GuestAddress(at + 8)).unwrap();
        }
    }

    /// Makes the chain that begins at `head` available.
    pub(crate) fn offer(&mut self, ring: usize, head: u16) {
        let made = self.rings[ring].made;
        let slot = Ring::available(ring) + 4 + u64::from(made % RING) * 2;
        self.memory.write_obj(head, GuestAddress(slot)).unwrap();
        self.rings[ring].made = made.wrapping_add(1);
        self.set_available(ring, self.rings[ring].made);
    }

    /// Writes any index, and kicks.
    pub(crate) fn set_available(&self, ring: usize, index: u16) {
        let at = GuestAddress(Ring::available(ring) + 2);
        self.memory.store(index, at, Ordering::Release).unwrap();
        self.kicks[ring].write(1).unwrap();
    }

    /// The next chain that comes back: its head and its length.
    ///
    /// # Panics
    /// If the server has ended, or doesn't answer.
    pub(crate) fn take_used(&mut self, ring: usize) -> (u16, u32) {
        // The server tells of what comes after this.
        let told_after = GuestAddress(Ring::available(ring) + 4 + 2 * u64::from(RING));
        let seen = self.rings[ring].seen;
        self.memory
            .store(seen, told_after, Ordering::SeqCst)
            .unwrap();
        while !self.has_used(ring) {
            let mut events = [EpollEvent::default(); 2];
            let count = self.calls.wait(PATIENCE_MS, &mut events).unwrap();
            assert!(count > 0, "the server doesn't answer");
            let ended = events[..count]
                .iter()
                .any(|event| event.event_set().contains(EventSet::READ_HANG_UP));
            assert!(!ended, "the server has ended");
            self.call.read().ok();
        }
        let slot = Ring::used(ring) + 4 + u64::from(seen % RING) * 8;
        let [head, len]: [u32; 2] = self.memory.read_obj(GuestAddress(slot)).unwrap();
        self.rings[ring].seen = seen.wrapping_add(1);
        (u16::try_from(head).unwrap(), len)
    }

    /// Has a request of `bytes` on its way, with `room` for the answer.
    pub(crate) fn send(&mut self, ring: usize, bytes: &[u8], room: u32) -> u16 {
        let head = self.free_chains.pop().unwrap_or_else(|| {
            self.next_chain += CHAIN;
            self.next_chain - CHAIN
        });
        assert!(head < RING);
        let buffer = BUFFERS + u64::from(head / CHAIN) * BUFFER;
        self.memory
            .write_slice(bytes, GuestAddress(buffer))
            .unwrap();
        let len = u32::try_from(bytes.len()).unwrap();
        let answer = buffer + BUFFER / 2;
        let request = Descriptor {
            address: buffer,
            len,
            flags: if room > 0 { NEXT } else { 0 },
            next: head + 1,
        };
        let space = Descriptor {
            address: answer,
            len: room,
            flags: WRITABLE,
            next: 0,
        };
        self.memory
            .write_slice(&[0xee; 16], GuestAddress(answer))
            .unwrap();
        self.describe(ring, head, &[request, space]);
        self.offer(ring, head);
        head
    }

    /// Whether something came back of a ring.
    pub(crate) fn has_used(&self, ring: usize) -> bool {
        let at = GuestAddress(Ring::used(ring) + 2);
        let index: u16 = self.memory.load(at, Ordering::Acquire).unwrap();
        index != self.rings[ring].seen
    }

    /// The answer to what [`Self::send`] sent as `head`.
    pub(crate) fn answer(&mut self, head: u16, len: u32) -> Answer {
        self.free_chains.push(head);
        let answer = BUFFERS + u64::from(head / CHAIN) * BUFFER + BUFFER / 2;
        if len < 16 {
            return Answer {
                len,
                error: 0,
                data: Vec::new(),
            };
        }
        let mut bytes = vec![0; len as usize];
        self.memory
            .read_slice(&mut bytes, GuestAddress(answer))
            .unwrap();
        let error = i32::from_le_bytes(bytes[4..8].try_into().unwrap());
        Answer {
            len,
            error: -error,
            data: bytes.split_off(16),
        }
    }

    /// Sends and waits.
    pub(crate) fn ask_bytes(&mut self, bytes: &[u8], room: u32) -> Answer {
        let head = self.send(REQUESTS, bytes, room);
        let (came, len) = self.take_used(REQUESTS);
        assert_eq!(came, head);
        self.answer(head, len)
    }

    /// A well-formed request.
    pub(crate) fn request(&mut self, opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
        self.request_of(1, opcode, (node, body))
    }

    /// One of the guest's process `pid`.
    pub(crate) fn request_of(
        &mut self,
        pid: u32,
        opcode: u32,
        (node, body): (u64, &[u8]),
    ) -> Vec<u8> {
        self.unique += 1;
        let len = u32::try_from(40 + body.len()).unwrap();
        let mut bytes = Vec::with_capacity(40 + body.len());
        bytes.extend(len.to_le_bytes());
        bytes.extend(opcode.to_le_bytes());
        bytes.extend(self.unique.to_le_bytes());
        bytes.extend(node.to_le_bytes());
        bytes.extend([0; 8]);
        bytes.extend(pid.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        bytes
    }

    /// Asks well, with room for 4 KiB.
    pub(crate) fn ask(&mut self, opcode: u32, node: u64, body: &[u8]) -> Answer {
        let bytes = self.request(opcode, node, body);
        self.ask_bytes(&bytes, 4096)
    }

    /// Writes into the guest's memory.
    pub(crate) fn write(&self, at: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(at)).unwrap();
    }

    /// Stops a ring and sets it up anew.
    pub(crate) fn restart(&mut self, ring: usize) {
        self.frontend.get_vring_base(ring).unwrap();
        self.start_ring(ring);
    }

    /// Has a second processor of the guest offer the chain at `head` again and again.
    pub(crate) fn flood(&self, ring: usize, head: u16) -> Flood {
        let (memory, kick) = (self.memory.clone(), self.kicks[ring].try_clone().unwrap());
        let ending = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ending);
        let (some, served) = mpsc::channel();
        let entries = [head.to_le_bytes(); RING as usize].concat();
        let offer = move || {
            let used = GuestAddress(Ring::used(ring) + 2);
            let used: u16 = memory.load(used, Ordering::Acquire).unwrap();
            let at = GuestAddress(Ring::available(ring) + 2);
            let made = used.wrapping_add(RING);
            memory
                .write_slice(&entries, GuestAddress(at.0 + 2))
                .unwrap();
            memory.store(made, at, Ordering::Release).unwrap();
            kick.write(1).unwrap();
            used
        };
        let thread = std::thread::spawn(move || {
            let deadline = Instant::now() + Duration::from_secs(20);
            let mut waiting = Some(some);
            while !told.load(Ordering::Relaxed) {
                assert!(Instant::now() < deadline, "the ring was not stopped");
                let served = offer() > RING;
                waiting = waiting.filter(|some| !served || some.send(()).is_err());
            }
        });
        Flood {
            ending,
            served,
            thread,
        }
    }

    /// Says INIT.
    pub(crate) fn init(&mut self) -> Answer {
        let words = [7, 38, 0x2_0000, SUBMOUNTS | (1 << 28)];
        self.ask(op::INIT, 0, &bytes_of(&words))
    }

    /// The node of `name` in `parent`, or an errno.
    pub(crate) fn lookup(&mut self, parent: u64, name: &str) -> Result<u64, i32> {
        let answer = self.ask(op::LOOKUP, parent, &name_bytes(name));
        match answer.error {
            0 => Ok(u64::from_le_bytes(answer.data[..8].try_into().unwrap())),
            error => Err(error),
        }
    }

    /// The handle of `node`.
    pub(crate) fn open(&mut self, opcode: u32, node: u64) -> u64 {
        let flags = if opcode == op::OPEN { 2 } else { 0 };
        let answer = self.ask(opcode, node, &bytes_of(&[flags, 0]));
        assert_eq!(answer.error, 0);
        u64::from_le_bytes(answer.data[..8].try_into().unwrap())
    }

    /// Forgets `node` altogether.
    pub(crate) fn forget(&mut self, node: u64) {
        let bytes = self.request(op::FORGET, node, &u64::MAX.to_le_bytes());
        let head = self.send(0, &bytes, 0);
        let (came, _) = self.take_used(0);
        assert_eq!(came, head);
        self.free_chains.push(head);
    }
}

/// A ring that is kept full.
pub(crate) struct Flood {
    ending: Arc<AtomicBool>,
    served: mpsc::Receiver<()>,
    thread: JoinHandle<()>,
}

impl Flood {
    /// Returns when more than a ring of requests were served.
    pub(crate) fn await_some(&self) {
        self.served.recv().unwrap();
    }

    /// # Panics
    /// If it has gone on for too long.
    pub(crate) fn end(self) {
        self.ending.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

pub(crate) fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub(crate) fn name_bytes(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// The body of READ, READDIR and, before its data, WRITE.
pub(crate) fn transfer(handle: u64, offset: u64, size: u32) -> Vec<u8> {
    let mut bytes = handle.to_le_bytes().to_vec();
    bytes.extend(offset.to_le_bytes());
    bytes.extend(size.to_le_bytes());
    bytes.extend([0; 20]);
    bytes
}
