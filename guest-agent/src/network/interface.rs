//! One interface: from how it was asked for to how it is asked for now.

use std::{fs, io};

use caisson_netlink::{INET, INET6, Message, Socket};
use caisson_protocol::server::agent::{Address, Interface, Neighbour};

use crate::failure::{Attempt, Errno, Failure};

const UP: u32 = libc::IFF_UP.unsigned_abs();
/// `IN6_ADDR_GEN_MODE_NONE` of linux/if_link.h.
const NO_GENERATED_ADDRESSES: u8 = 1;
/// `IFLA_INET6_ADDR_GEN_MODE`
const ADDR_GEN_MODE: u16 = 8;
/// `NUD_PERMANENT` of linux/neighbour.h.
const PERMANENT: u16 = 0x80;
/// `NDA_DST`, `NDA_LLADDR`
const NEIGHBOUR_ADDRESS: u16 = 1;
const NEIGHBOUR_MAC: u16 = 2;

/// Number of the interface of this name.
pub(super) fn index_of(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

/// Whether the interface has no IPv6: by its namespace on the host, or because the
/// container has switched it off (`net.ipv6.conf`), and then stays without.
pub(super) fn ipv6_is_off(name: &str) -> bool {
    let setting = fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"));
    setting.is_ok_and(|value| value.trim() == "1")
}

/// Changes what differs.
///
/// # Errors
/// The first thing that the kernel refuses, with the interface's name.
pub(super) fn change(
    socket: &Socket,
    index: u32,
    before: &Interface,
    wanted: &Interface,
) -> Result<(), Failure> {
    let name = &wanted.name;
    let step = |what: &str, result: io::Result<()>| {
        result.map_err(|error| {
            let reason = Errno::from(error);
            Failure::Refused(format!("interface {name}: {what}: {reason}"))
        })
    };
    set_link(socket, index, before, wanted, step)?;
    let mut kept = before.addresses.as_slice();
    for address in missing(&before.addresses, &wanted.addresses) {
        // It may have gone by itself, with another; others may go with it.
        kept = &[];
        drop(socket.change(&address_message(libc::RTM_DELADDR, 0, index, address)));
    }
    let off = ipv6_is_off(name);
    for address in missing(&wanted.addresses, kept) {
        if off && family_of(&address.local) == INET6 {
            continue;
        }
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        let added = socket.change(&address_message(libc::RTM_NEWADDR, flags, index, address));
        step("add an address", added)?;
    }
    for neighbour in missing(&before.neighbours, &wanted.neighbours) {
        drop(socket.change(&neighbour_message(libc::RTM_DELNEIGH, 0, index, neighbour)));
    }
    for neighbour in missing(&wanted.neighbours, &before.neighbours) {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        let message = neighbour_message(libc::RTM_NEWNEIGH, flags, index, neighbour);
        step("add a neighbour", socket.change(&message))?;
    }
    Ok(())
}

fn set_link(
    socket: &Socket,
    index: u32,
    before: &Interface,
    wanted: &Interface,
    step: impl Fn(&str, io::Result<()>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let is_new = before.mac.is_empty();
    if before.name != wanted.name {
        let message = link_message(index, 0).with_text(libc::IFLA_IFNAME, &wanted.name);
        step("set its name", socket.change(&message))?;
    }
    if before.mac != wanted.mac {
        let message = link_message(index, 0).with(libc::IFLA_ADDRESS, &wanted.mac);
        step("set its hardware address", socket.change(&message))?;
    }
    if before.mtu != wanted.mtu {
        let message = link_message(index, 0).with_number(libc::IFLA_MTU, wanted.mtu);
        step("set its MTU", socket.change(&message))?;
    }
    for (file, value) in &wanted.ipv6_settings {
        if before.ipv6_settings.get(file) != Some(value) {
            let path = format!("/proc/sys/net/ipv6/conf/{}/{file}", wanted.name);
            fs::write(&path, value).at("write", path)?;
        }
    }
    if !is_new {
        return Ok(());
    }
    // Its addresses are those of the host's side, the link-local one among them.
    // Without IPv6 there is nothing to say.
    drop(
        socket.change(&link_message(index, 0).with(libc::IFLA_AF_SPEC, &no_generated_addresses())),
    );
    step("bring it up", socket.change(&link_message(index, UP)))
}

/// Elements of `these` that `others` lacks.
fn missing<'a, T: PartialEq>(these: &'a [T], others: &'a [T]) -> impl Iterator<Item = &'a T> {
    these.iter().filter(|one| !others.contains(one))
}

/// struct ifinfomsg, which changes the flags in `flags` only.
fn link_message(index: u32, flags: u32) -> Message {
    let (index, flags) = (index.to_ne_bytes(), flags.to_ne_bytes());
    let header = [&[0; 4][..], &index, &flags, &flags].concat();
    Message::new(libc::RTM_NEWLINK, 0, &header)
}

/// `AF_INET6` { `IFLA_INET6_ADDR_GEN_MODE` }
fn no_generated_addresses() -> Vec<u8> {
    let inet6 = Message::nested(&[(ADDR_GEN_MODE, &[NO_GENERATED_ADDRESSES])]);
    Message::nested(&[(INET6.into(), &inet6)])
}

/// Family of an address, as messages have it.
pub(super) fn family_of(address: &[u8]) -> u8 {
    if address.len() == 16 { INET6 } else { INET }
}

fn address_message(kind: u16, flags: i32, index: u32, address: &Address) -> Message {
    let narrow = |number: u32| u8::try_from(number).unwrap_or(u8::MAX);
    let header = [
        &[
            family_of(&address.local),
            narrow(address.prefix_length),
            0,
            narrow(address.scope),
        ][..],
        &index.to_ne_bytes(),
    ]
    .concat();
    let far = if address.peer.is_empty() {
        &address.local
    } else {
        &address.peer
    };
    let message = Message::new(kind, flags, &header)
        .with(libc::IFA_LOCAL, &address.local)
        .with(libc::IFA_ADDRESS, far)
        // The host's side has made sure that nobody else has it, and has the route
        // that comes with it.
        .with_number(
            libc::IFA_FLAGS,
            libc::IFA_F_NODAD | libc::IFA_F_NOPREFIXROUTE,
        );
    if address.broadcast.is_empty() {
        message
    } else {
        message.with(libc::IFA_BROADCAST, &address.broadcast)
    }
}

/// struct ndmsg
fn neighbour_message(kind: u16, flags: i32, index: u32, neighbour: &Neighbour) -> Message {
    let header = [
        &[family_of(&neighbour.address), 0, 0, 0][..],
        &index.to_ne_bytes(),
        &PERMANENT.to_ne_bytes(),
        &[0, 0],
    ]
    .concat();
    Message::new(kind, flags, &header)
        .with(NEIGHBOUR_ADDRESS, &neighbour.address)
        .with(NEIGHBOUR_MAC, &neighbour.mac)
}
