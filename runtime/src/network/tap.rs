//! A tap device: the machine's end of the wire.
//!
//! It exists for as long as somebody holds its descriptor, so nothing is left of it
//! after a machine, however that ended.

use std::fs::{File, OpenOptions};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

use caisson_netlink::{INET, INET6, Message, Socket};
use nix::libc;

use crate::network::error::Error;
use crate::sys;

/// With the owner's number, so that one's taps are known from another's.
const NAME_START: &str = "cais";
/// `IFLA_INET6_ADDR_GEN_MODE`, and `IN6_ADDR_GEN_MODE_NONE`.
const ADDR_GEN_MODE: u16 = 8;
const NO_GENERATED_ADDRESSES: u8 = 1;

/// A tap in the network namespace of the thread that made it.
#[derive(Debug)]
pub(crate) struct Tap {
    /// Number of the interface.
    pub(crate) index: u32,
    /// Its queues: what is written to one arrives on the interface, and what is sent on
    /// the interface can be read from one of them.
    pub(crate) queues: Vec<OwnedFd>,
}

impl Tap {
    /// A new one that is down, with so many queues; packets have headers of 12 bytes.
    pub(crate) fn make(queues: u8) -> Result<Self, Error> {
        let several = queues > 1;
        // The kernel makes a number of the last two letters.
        let mut name = format!("{}%d", name_start(nix::unistd::getpid().as_raw()));
        let mut all = Vec::new();
        for _ in 0..queues.max(1) {
            let file: File = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NONBLOCK)
                .open("/dev/net/tun")
                .map_err(Error::Tap)?;
            let queue = OwnedFd::from(file);
            name = sys::make_tap(&queue, &name, several).map_err(Error::Tap)?;
            all.push(queue);
        }
        let index = nix::net::if_::if_nametoindex(name.as_str())
            .map_err(|errno| Error::Tap(errno.into()))?;
        Ok(Self { index, queues: all })
    }
}

/// Makes the interface `index`, a tap, ready for traffic of frames up to `mtu`.
pub(super) fn bring_up(socket: &Socket, index: u32, mtu: u32) -> std::io::Result<()> {
    let inet6 = Message::nested(&[(ADDR_GEN_MODE, &[NO_GENERATED_ADDRESSES])]);
    let quiet = link(index, 0).with_nested(libc::IFLA_AF_SPEC, &[(INET6.into(), &inet6)]);
    // It has no addresses of its own. Without IPv6 there is nothing to say.
    drop(socket.change(&quiet));
    socket.change(&link(index, libc::IFF_UP.unsigned_abs()).with_number(libc::IFLA_MTU, mtu))
}

/// Gives the interface `index` an address of its own, alone on its link.
pub(super) fn add_address(socket: &Socket, index: u32, address: Ipv4Addr) -> std::io::Result<()> {
    // struct ifaddrmsg
    let [a, b, c, d] = index.to_ne_bytes();
    let header = [INET, 32, 0, libc::RT_SCOPE_HOST, a, b, c, d];
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let message = Message::new(libc::RTM_NEWADDR, flags, &header);
    socket.change(&message.with(libc::IFA_LOCAL, &address.octets()))
}

/// How the names of all taps of an owner begin.
pub(super) fn name_start(owner: i32) -> String {
    format!("{NAME_START}{owner}.")
}

/// Whether an interface of this name and kind is a tap of ours, or of another container.
pub(super) fn is_one(name: &str, kind: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let numbers = name.strip_prefix(NAME_START);
    let numbers = numbers.and_then(|rest| rest.split_once('.'));
    kind == "tun" && numbers.is_some_and(|(owner, tap)| is_number(owner) && is_number(tap))
}

/// struct ifinfomsg
fn link(index: u32, flags: u32) -> Message {
    let (index, flags) = (index.to_ne_bytes(), flags.to_ne_bytes());
    Message::new(
        libc::RTM_NEWLINK,
        0,
        &[&[0; 4][..], &index, &flags, &flags].concat(),
    )
}
