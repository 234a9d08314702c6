//! One interface: from how it was asked for to how it is asked for now.

use std::{fs, io};

use caisson_netlink::{INET, INET6, Message, Socket};
use caisson_protocol::server::agent::{Address, Interface, Neighbour};

use crate::failure::{Attempt, Errno, Failure, First};

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

/// Brings a new interface up as `wanted` says, but for addresses and neighbours. The
/// answer has its number and what was done.
///
/// # Errors
/// The first thing that the kernel refuses, with the interface's name.
pub(super) fn begin(
    socket: &Socket,
    name: String,
    wanted: &Interface,
) -> Result<(u32, Interface), Failure> {
    let index =
        index_of(&name).ok_or_else(|| Failure::Refused(format!("interface {name} has gone")))?;
    let mut asked = Interface {
        name,
        ..Default::default()
    };
    let mut steps = First::default();
    set_link(socket, index, (&mut asked, wanted), &mut steps);
    steps.outcome()?;
    // Its addresses are those of the host's side, the link-local one among them.
    // Without IPv6 there is nothing to say.
    drop(
        socket.change(&link_message(index, 0).with(libc::IFLA_AF_SPEC, &no_generated_addresses())),
    );
    step(
        wanted,
        "bring it up",
        socket.change(&link_message(index, UP)),
    )?;
    Ok((index, asked))
}

/// Changes what differs of an interface that is up; `asked` is what was done before,
/// and what is done now.
///
/// # Errors
/// The first thing that the kernel refuses, with the interface's name; the rest is done.
pub(super) fn change(
    socket: &Socket,
    index: u32,
    asked: &mut Interface,
    wanted: &Interface,
) -> Result<(), Failure> {
    let mut steps = First::default();
    set_link(socket, index, (asked, wanted), &mut steps);
    set_addresses(socket, index, (asked, wanted), &mut steps);
    set_neighbours(socket, index, (asked, wanted), &mut steps);
    steps.outcome()
}

/// A refusal with the interface's name.
fn step(wanted: &Interface, what: &str, result: io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| {
        let (name, reason) = (&wanted.name, Errno::from(error));
        Failure::Refused(format!("interface {name}: {what}: {reason}"))
    })
}

fn set_link(
    socket: &Socket,
    index: u32,
    (asked, wanted): (&mut Interface, &Interface),
    steps: &mut First,
) {
    let mut change =
        |what: &str, message: Message| steps.done(step(wanted, what, socket.change(&message)));
    if asked.name != wanted.name {
        let message = link_message(index, 0).with_text(libc::IFLA_IFNAME, &wanted.name);
        if change("set its name", message) {
            asked.name.clone_from(&wanted.name);
        }
    }
    if asked.mac != wanted.mac {
        let message = link_message(index, 0).with(libc::IFLA_ADDRESS, &wanted.mac);
        if change("set its hardware address", message) {
            asked.mac.clone_from(&wanted.mac);
        }
    }
    if asked.mtu != wanted.mtu {
        let message = link_message(index, 0).with_number(libc::IFLA_MTU, wanted.mtu);
        if change("set its MTU", message) {
            asked.mtu = wanted.mtu;
        }
    }
    for (file, value) in &wanted.ipv6_settings {
        if asked.ipv6_settings.get(file) != Some(value) {
            let path = format!("/proc/sys/net/ipv6/conf/{}/{file}", asked.name);
            if steps.done(fs::write(&path, value).at("write", path)) {
                asked.ipv6_settings.insert(file.clone(), value.clone());
            }
        }
    }
}

fn set_addresses(
    socket: &Socket,
    index: u32,
    (asked, wanted): (&mut Interface, &Interface),
    steps: &mut First,
) {
    let addresses: Vec<Address> = wanted.addresses.iter().map(settled).collect();
    let old = missing(&asked.addresses, &addresses);
    for address in &old {
        // It may have gone by itself, with another.
        drop(socket.change(&address_message(libc::RTM_DELADDR, 0, index, address)));
    }
    if !old.is_empty() {
        // Others may have gone with it.
        asked.addresses.clear();
    }
    let off = ipv6_is_off(&asked.name);
    for address in &wanted.addresses {
        if asked.addresses.contains(&settled(address)) {
            continue;
        }
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        let message = address_message(libc::RTM_NEWADDR, flags, index, address);
        let skipped = off && family_of(&address.local) == INET6;
        if skipped || steps.done(step(wanted, "add an address", socket.change(&message))) {
            asked.addresses.push(settled(address));
        }
    }
}

/// The address whatever the host has found out about it, by which it is known.
fn settled(address: &Address) -> Address {
    Address {
        tentative: false,
        ..address.clone()
    }
}

fn set_neighbours(
    socket: &Socket,
    index: u32,
    (asked, wanted): (&mut Interface, &Interface),
    steps: &mut First,
) {
    for neighbour in missing(&asked.neighbours, &wanted.neighbours) {
        drop(socket.change(&neighbour_message(libc::RTM_DELNEIGH, 0, index, &neighbour)));
    }
    asked
        .neighbours
        .retain(|one| wanted.neighbours.contains(one));
    for neighbour in missing(&wanted.neighbours, &asked.neighbours) {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        let message = neighbour_message(libc::RTM_NEWNEIGH, flags, index, &neighbour);
        if steps.done(step(wanted, "add a neighbour", socket.change(&message))) {
            asked.neighbours.push(neighbour);
        }
    }
}

/// Elements of `these` that `others` lacks.
fn missing<T: PartialEq + Clone>(these: &[T], others: &[T]) -> Vec<T> {
    let lacking = these.iter().filter(|one| !others.contains(one));
    lacking.cloned().collect()
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
        .with_number(libc::IFA_FLAGS, flags_of(address));
    if address.broadcast.is_empty() {
        message
    } else {
        message.with(libc::IFA_BROADCAST, &address.broadcast)
    }
}

/// The host's side has the route that comes with it, and as a rule has made sure that
/// nobody else has the address.
fn flags_of(address: &Address) -> u32 {
    if address.tentative {
        libc::IFA_F_NOPREFIXROUTE
    } else {
        libc::IFA_F_NODAD | libc::IFA_F_NOPREFIXROUTE
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_has_not_found_out_is_found_out_here_once() {
        let tentative = Address {
            local: vec![0xfd; 16],
            tentative: true,
            ..Default::default()
        };
        assert_eq!(flags_of(&tentative) & libc::IFA_F_NODAD, 0);
        let later = settled(&tentative);
        assert_ne!(flags_of(&later) & libc::IFA_F_NODAD, 0);
        // It is not set anew then, which would end the detection.
        assert_eq!(missing(&[settled(&tentative)], &[settled(&later)]), []);
    }
}
