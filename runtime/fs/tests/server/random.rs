//! Requests that are wrong by chance: each comes back, and the server goes on.
//!
//! A loop over a generator with a fixed seed, so that what it finds is found again.
//! `CAISSON_FUZZ_SECONDS` has it go on for so long, `CAISSON_FUZZ_SEED` begin elsewhere.

use std::time::{Duration, Instant};

use caisson_jail::detached::Access;

use super::TestMount;
use super::guest::{Descriptor, Guest, INDIRECT, MEMORY, NEXT, REQUESTS, ROOT, WRITABLE, op};
use super::harness::{Export, Server, host_directory};

/// Requests without a limit of time.
const FEW: u64 = 4_000;
/// Requests after which the guest says INIT again, and a good request must be answered.
const SESSION: u64 = 250;
/// Where requests and answers lie in the guest's memory.
const REQUEST: u64 = 0x40_0000;
const ANSWER: u64 = 0x80_0000;
/// A chain's first descriptor, beyond those of [`Guest::ask`].
const HEAD: u16 = 64;

#[test]
fn any_bytes_come_back() {
    let host = host_directory();
    let rootfs = host.path().join("rootfs");
    // Small: some requests fill it.
    let mount = TestMount::tmpfs(&rootfs);
    std::fs::write(rootfs.join("file"), [b'x'; 4096]).unwrap();
    let export = Export::directory(&rootfs, "web1/rootfs", Access::AsMounted);
    let mut server = Server::start(vec![export]);
    let mut guest = Guest::attach(server.machine.take().unwrap());

    let number = |name| std::env::var(name).ok()?.parse().ok();
    let seconds: Option<u64> = number("CAISSON_FUZZ_SECONDS");
    let mut chance = Chance(number("CAISSON_FUZZ_SEED").unwrap_or(0x5eed));
    let start = Instant::now();
    let mut done = 0;
    loop {
        let go_on = match seconds {
            Some(seconds) => start.elapsed() < Duration::from_secs(seconds),
            None => done < FEW,
        };
        if !go_on {
            break;
        }
        if done % SESSION == 0 {
            begin_session(&mut guest);
        }
        let bytes = chance.request(&mut guest);
        let chain = chance.chain(&guest, &bytes);
        guest.describe(REQUESTS, HEAD, &chain);
        guest.offer(REQUESTS, HEAD);
        let (head, len) = guest.take_used(REQUESTS);
        assert_eq!(head, HEAD);
        assert!(u64::from(len) <= MEMORY);
        done += 1;
    }
    begin_session(&mut guest);
    drop(mount);
    let rate = done as f64 / start.elapsed().as_secs_f64();
    println!("caisson-fs, FUSE requests: {done} executions, {rate:.0} per second");
}

/// After whatever came before: INIT is answered, and the files are there.
fn begin_session(guest: &mut Guest) {
    assert_eq!(guest.init().error, 0);
    let container = guest.lookup(ROOT, "web1").unwrap();
    let directory = guest.lookup(container, "rootfs").unwrap();
    guest.open(op::OPENDIR, directory);
    if let Ok(node) = guest.lookup(directory, "file") {
        // It may be anything by now.
        guest.ask(op::OPEN, node, &[2, 0, 0, 0, 0, 0, 0, 0]);
    }
}

/// A source of numbers (xorshift64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn one_of<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.below(choice.len())]
    }

    /// Mostly small; sometimes where arithmetic ends.
    fn number(&mut self) -> u64 {
        let small = self.next() % 8;
        let any = self.next();
        let edge = self.one_of(&[
            0,
            1 << 31,
            u64::from(u32::MAX),
            1 << 63,
            u64::MAX,
            i64::MAX as u64,
        ]);
        self.one_of(&[
            small,
            small,
            small,
            small,
            4096,
            1 << 20,
            edge,
            edge.wrapping_sub(small),
            any,
        ])
    }

    fn request(&mut self, guest: &mut Guest) -> Vec<u8> {
        let opcode = u32::try_from(1 + self.below(op::LAST as usize)).unwrap();
        let node = self.number();
        let body = self.body();
        let mut bytes = guest.request(opcode, node, &body);
        match self.below(16) {
            0 => bytes.truncate(self.below(56)),
            1 => bytes[..4].copy_from_slice(&self.number().to_le_bytes()[..4]),
            2 => {
                let at = self.below(bytes.len());
                bytes[at] ^= 1 << self.below(8);
            }
            _ => {}
        }
        bytes
    }

    /// Words, then names.
    fn body(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        for _ in 0..self.below(11) {
            let number = self.number();
            if self.below(2) == 0 {
                body.extend(number.to_le_bytes());
            } else {
                body.extend(&number.to_le_bytes()[..4]);
            }
        }
        let names: [&[u8]; 10] = [
            b"file\0",
            b"new\0",
            b"user.a\0",
            b"..\0",
            b"a/b\0",
            b"\0",
            b"cut",
            b"value",
            b"security.capability\0",
            b"system.posix_acl_access\0",
        ];
        for _ in 0..self.below(4) {
            body.extend(self.one_of(&names));
        }
        if self.below(20) == 0 {
            body.resize(self.below(70_000), b'n');
        }
        body
    }

    /// Descriptors of `bytes` in some pieces, and of room for an answer.
    fn chain(&mut self, guest: &Guest, bytes: &[u8]) -> Vec<Descriptor> {
        guest.write(REQUEST, bytes);
        let mut chain = Vec::new();
        let mut from = 0;
        while from < bytes.len() {
            let part = match self.below(4) {
                0 => 1 + self.below(bytes.len() - from),
                _ => bytes.len() - from,
            };
            chain.push((REQUEST + from as u64, part, 0));
            from += part;
            if chain.len() == 20 {
                break;
            }
        }
        for _ in 0..self.below(3) {
            let room = self.one_of(&[0, 8, 15, 16, 17, 40, 104, 144, 160, 4096, 1 << 20, 2 << 20]);
            chain.push((ANSWER, room, WRITABLE));
        }
        if chain.is_empty() {
            chain.push((ANSWER, 16, WRITABLE));
        }
        if self.below(40) == 0 {
            let at = self.below(chain.len());
            chain[at].0 = self.number();
        }
        if self.below(40) == 0 {
            let at = self.below(chain.len());
            chain[at].2 ^= self.one_of(&[WRITABLE, INDIRECT]);
        }
        let last = chain.len() - 1;
        let numbered = (HEAD..).zip(chain.into_iter().enumerate());
        numbered
            .map(|(number, (at, (address, len, flags)))| Descriptor {
                address,
                len: u32::try_from(len).unwrap(),
                flags: flags | if at < last { NEXT } else { 0 },
                next: number + 1,
            })
            .collect()
    }
}
