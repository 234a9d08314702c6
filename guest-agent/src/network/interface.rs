//! One interface: its link, addresses and neighbours.
//!
//! Owns the difference between the configuration that is applied and the wanted one.

use std::{fs, io};

use caisson_netlink::{INET, INET6, Message, Socket};
use caisson_protocol::server::agent::{Address, Interface, Neighbour};

use crate::failure::{Attempt, Errno, Failure, FirstFailure};

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

/// Brings a new interface up as `wanted` describes, but for addresses and neighbours.
/// Returns its number and the configuration that is applied.
///
/// # Errors
/// The first change that the kernel refuses, with the interface's name.
pub(super) fn bring_up(
    socket: &Socket,
    name: String,
    wanted: &Interface,
) -> Result<(u32, Interface), Failure> {
    let index =
        index_of(&name).ok_or_else(|| Failure::Refused(format!("interface {name} has gone")))?;
    let mut applied = Interface {
        name,
        ..Default::default()
    };
    let mut update = InterfaceUpdate {
        socket,
        index,
        applied: &mut applied,
        wanted,
    };
    let mut steps = FirstFailure::default();
    update.set_link(&mut steps);
    steps.outcome()?;
    // Its addresses are those of the host's side, the link-local one among them.
    // A kernel without IPv6 refuses, and generates none.
    drop(
        socket.change(&link_message(index, 0).with(libc::IFLA_AF_SPEC, &no_generated_addresses())),
    );
    update.step("bring it up", socket.change(&link_message(index, UP)))?;
    Ok((index, applied))
}

/// A change of an interface that is up.
#[derive(Debug)]
pub(super) struct InterfaceUpdate<'a> {
    pub(super) socket: &'a Socket,
    pub(super) index: u32,
    /// The configuration before, and then after, the change.
    pub(super) applied: &'a mut Interface,
    pub(super) wanted: &'a Interface,
}

impl InterfaceUpdate<'_> {
    /// Changes what differs.
    ///
    /// # Errors
    /// The first change that the kernel refuses, with the interface's name; the others
    /// are made.
    pub(super) fn apply(mut self) -> Result<(), Failure> {
        let mut steps = FirstFailure::default();
        self.set_link(&mut steps);
        self.set_addresses(&mut steps);
        self.set_neighbours(&mut steps);
        steps.outcome()
    }

    /// A refusal with the interface's name.
    fn step(&self, what: &str, result: io::Result<()>) -> Result<(), Failure> {
        result.map_err(|error| {
            let (name, reason) = (&self.wanted.name, Errno::from(error));
            Failure::Refused(format!("interface {name}: {what}: {reason}"))
        })
    }

    /// Sends a change. Returns whether the kernel has made it.
    fn change(&self, what: &str, message: &Message, steps: &mut FirstFailure) -> bool {
        steps.record(self.step(what, self.socket.change(message)))
    }

    fn set_link(&mut self, steps: &mut FirstFailure) {
        let (index, wanted) = (self.index, self.wanted);
        if self.applied.name != wanted.name {
            let message = link_message(index, 0).with_text(libc::IFLA_IFNAME, &wanted.name);
            if self.change("set its name", &message, steps) {
                self.applied.name.clone_from(&wanted.name);
            }
        }
        if self.applied.mac != wanted.mac {
            let message = link_message(index, 0).with(libc::IFLA_ADDRESS, &wanted.mac);
            if self.change("set its hardware address", &message, steps) {
                self.applied.mac.clone_from(&wanted.mac);
            }
        }
        if self.applied.mtu != wanted.mtu {
            let message = link_message(index, 0).with_number(libc::IFLA_MTU, wanted.mtu);
            if self.change("set its MTU", &message, steps) {
                self.applied.mtu = wanted.mtu;
            }
        }
        self.set_ipv6_settings(steps);
    }

    fn set_ipv6_settings(&mut self, steps: &mut FirstFailure) {
        let applied = &mut self.applied.ipv6_settings;
        for (file, value) in &self.wanted.ipv6_settings {
            if applied.get(file) == Some(value) {
                continue;
            }
            let path = format!("/proc/sys/net/ipv6/conf/{}/{file}", self.applied.name);
            if steps.record(fs::write(&path, value).at("write", path)) {
                applied.insert(file.clone(), value.clone());
            }
        }
    }

    fn set_addresses(&mut self, steps: &mut FirstFailure) {
        let addresses: Vec<Address> = self.wanted.addresses.iter().map(settled).collect();
        let old = missing(&self.applied.addresses, &addresses);
        for address in &old {
            // It may have gone by itself, with another.
            let message = address_message(libc::RTM_DELADDR, 0, self.index, address);
            drop(self.socket.change(&message));
        }
        if !old.is_empty() {
            // Others may have gone with it.
            self.applied.addresses.clear();
        }
        let off = ipv6_is_off(&self.applied.name);
        for address in &self.wanted.addresses {
            if self.applied.addresses.contains(&settled(address)) {
                continue;
            }
            let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
            let message = address_message(libc::RTM_NEWADDR, flags, self.index, address);
            let skipped = off && family_of(&address.local) == INET6;
            if skipped || self.change("add an address", &message, steps) {
                self.applied.addresses.push(settled(address));
            }
        }
    }

    fn set_neighbours(&mut self, steps: &mut FirstFailure) {
        let wanted = &self.wanted.neighbours;
        for neighbour in missing(&self.applied.neighbours, wanted) {
            let message = neighbour_message(libc::RTM_DELNEIGH, 0, self.index, &neighbour);
            drop(self.socket.change(&message));
        }
        let applied = &mut self.applied.neighbours;
        applied.retain(|one| wanted.contains(one));
        for neighbour in missing(wanted, &self.applied.neighbours) {
            let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
            let message = neighbour_message(libc::RTM_NEWNEIGH, flags, self.index, &neighbour);
            if self.change("add a neighbour", &message, steps) {
                self.applied.neighbours.push(neighbour);
            }
        }
    }
}

/// The address without the state of the host's duplicate address detection, which is no
/// part of its identity.
fn settled(address: &Address) -> Address {
    Address {
        tentative: false,
        ..address.clone()
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

/// The route of the prefix is configured like any other, and the host has detected
/// duplicates of the address, unless it is tentative there.
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
