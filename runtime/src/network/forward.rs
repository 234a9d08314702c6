//! The container's ports, reached from its network namespace on the host: engines
//! dial localhost or the container's own address there to forward a port (CRI's
//! port-forward, Podman's rootlessport).
//!
//! A BPF program hands every TCP connection that begins in the namespace and is to
//! 127.0.0.1, ::1 or an address that is not of loopback to one listener here, whatever
//! its port; the agent connects it with the same address and port in the guest.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::sys;

/// Where the guest's ports can be reached, while it is held.
#[derive(Debug)]
pub(crate) struct Front {
    /// For IPv4, and for IPv6 where there is any.
    pub(crate) listeners: Vec<TcpListener>,
    /// Takes the connections away from their ports.
    _link: OwnedFd,
}

impl Front {
    /// Begins in the network namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel's, as for a user without CAP_BPF on the host.
    pub(crate) fn open() -> io::Result<Self> {
        let mut listeners = vec![TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?];
        listeners.extend(TcpListener::bind((Ipv6Addr::LOCALHOST, 0)));
        let sockets: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
        let map = sys::make_socket_map(&sockets)?;
        let namespace = File::open("/proc/thread-self/ns/net")?;
        let _link = sys::attach_lookup(namespace.as_fd(), &program(map.as_raw_fd()))?;
        Ok(Self { listeners, _link })
    }
}

/// Copies both ways until both have ended.
///
/// # Errors
/// When either side breaks.
pub(crate) fn join(mut outside: TcpStream, mut guest: UnixStream) -> io::Result<()> {
    let (mut to_outside, mut from_guest) = (outside.try_clone()?, guest.try_clone()?);
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(STACK_LEN)
            .spawn_scoped(scope, move || {
                // The other direction says how it ended.
                copy(&mut from_guest, &mut to_outside).ok();
                to_outside.shutdown(Shutdown::Write).ok();
            })?;
        copy(&mut outside, &mut guest)?;
        guest.shutdown(Shutdown::Write)
    })
}

/// Room for the buffer of `copy`.
const STACK_LEN: usize = 64 * 1024;

fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let length = from.read(&mut buffer)?;
        let Some(bytes @ [_, ..]) = buffer.get(..length) else {
            return Ok(());
        };
        to.write_all(bytes)?;
    }
}

/// Operations of eBPF (linux/bpf.h, linux/bpf_common.h), as far as needed.
mod operation {
    pub(super) const MOVE: u8 = 0xbf;
    pub(super) const SET: u8 = 0xb7;
    pub(super) const ADD: u8 = 0x07;
    pub(super) const LOAD_32: u8 = 0x61;
    pub(super) const STORE_32: u8 = 0x62;
    pub(super) const LOAD_MAP: u8 = 0x18;
    pub(super) const AND: u8 = 0x57;
    /// Compare all 64 bits, or 32, with a number.
    pub(super) const UNLESS_EQUAL: u8 = 0x55;
    pub(super) const IF_EQUAL: u8 = 0x15;
    pub(super) const IF_EQUAL_32: u8 = 0x16;
    pub(super) const GO: u8 = 0x05;
    pub(super) const CALL: u8 = 0x85;
    pub(super) const EXIT: u8 = 0x95;
}

/// One instruction: operation, target and source register, offset, number.
const fn instruction(code: u8, target: u8, source: u8, offset: i16, number: i32) -> u64 {
    code as u64
        | (target as u64 & 15) << 8
        | (source as u64 & 15) << 12
        | (offset.cast_unsigned() as u64) << 16
        | (number.cast_unsigned() as u64) << 32
}

/// `if TCP, and not to another loopback address than 127.0.0.1: give the socket of the
/// family, else go on as usual`. What the program sees begins in the namespace: what
/// arrives on its interfaces is the guest's. Offsets are those of `struct bpf_sk_lookup`.
fn program(map: i32) -> Vec<u64> {
    use operation::*;
    const FAMILY: i16 = 8;
    const PROTOCOL: i16 = 12;
    const LOCAL_IP4: i16 = 40;
    const TCP: i32 = 6;
    const LOOPBACK_NET: i32 = 127;
    /// `BPF_PSEUDO_MAP_FD`
    const MAP: u8 = 1;
    const LOOK_UP: i32 = 1;
    const RELEASE: i32 = 86;
    const ASSIGN: i32 = 124;
    let one = i32::from_ne_bytes(Ipv4Addr::LOCALHOST.octets());
    vec![
        // r6 = context
        instruction(MOVE, 6, 1, 0, 0),
        instruction(LOAD_32, 2, 1, PROTOCOL, 0),
        instruction(UNLESS_EQUAL, 2, 0, 22, TCP),
        instruction(LOAD_32, 2, 1, FAMILY, 0),
        instruction(UNLESS_EQUAL, 2, 0, 6, i32::from(caisson_netlink::INET)),
        // IPv4: key 0. The first octet is in the lowest bits.
        instruction(LOAD_32, 2, 1, LOCAL_IP4, 0),
        instruction(IF_EQUAL_32, 2, 0, 2, one),
        instruction(AND, 2, 0, 0, 0xff),
        instruction(IF_EQUAL, 2, 0, 16, LOOPBACK_NET),
        instruction(STORE_32, 10, 0, -4, 0),
        instruction(GO, 0, 0, 1, 0),
        // IPv6: key 1
        instruction(STORE_32, 10, 0, -4, 1),
        // r7 = the socket; assign; release
        instruction(LOAD_MAP, 1, MAP, 0, map),
        0,
        instruction(MOVE, 2, 10, 0, 0),
        instruction(ADD, 2, 0, 0, -4),
        instruction(CALL, 0, 0, 0, LOOK_UP),
        instruction(IF_EQUAL, 0, 0, 7, 0),
        instruction(MOVE, 7, 0, 0, 0),
        instruction(MOVE, 1, 6, 0, 0),
        instruction(MOVE, 2, 7, 0, 0),
        instruction(SET, 3, 0, 0, 0),
        instruction(CALL, 0, 0, 0, ASSIGN),
        instruction(MOVE, 1, 7, 0, 0),
        instruction(CALL, 0, 0, 0, RELEASE),
        // pass: r0 = SK_PASS
        instruction(SET, 0, 0, 0, 1),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every jump that gives up leads to the last two instructions.
    #[test]
    fn jumps_end_where_the_connection_goes_on() {
        let program = program(3);
        let pass = program.len() - 2;
        for (at, word) in program.iter().enumerate() {
            let [code, _, low, high, ..] = word.to_le_bytes();
            let offset = usize::from(u16::from_le_bytes([low, high]));
            let gives_up = [operation::UNLESS_EQUAL, operation::IF_EQUAL];
            if gives_up.contains(&code) && at != 4 {
                assert_eq!(at + 1 + offset, pass, "instruction {at}");
            }
        }
    }
}
