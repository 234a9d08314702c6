//! A network namespace as plain data, and what of it a guest is told.
//!
//! Owns the reading of the kernel's dumps and the choice of what counts. Changes
//! nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use caisson_netlink::{Answer, Attributes, INET, INET6, Message, Socket, number, text};
use caisson_protocol::client::agent::{Address, Interface, Neighbour, NetworkConfiguration, Route};
use nix::libc;

use crate::network::error::Error;
use crate::network::routes;
use crate::network::routes::Found;
use crate::network::{Mac, tap};

/// Lengths of the structures that messages begin with.
const LINK_LEN: usize = 16;
const ADDRESS_LEN: usize = 8;
const NEIGHBOUR_LEN: usize = 12;
const RULE_LEN: usize = 12;

/// `IFLA_INFO_KIND`, `IFLA_INFO_DATA`
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
/// `IFLA_IPVLAN_MODE`, `IPVLAN_MODE_L2`
const IPVLAN_MODE: u16 = 1;
const IPVLAN_L2: u8 = 0;
/// `NDA_DST`, `NDA_LLADDR`, `NUD_PERMANENT`
const NEIGHBOUR_ADDRESS: u16 = 1;
const NEIGHBOUR_MAC: u16 = 2;
const PERMANENT: u16 = 0x80;
/// `FRA_PRIORITY`, `FRA_TABLE`
const RULE_PRIORITY: u16 = 6;
const RULE_TABLE: u16 = 15;
/// `FIB_RULE_INVERT`; the kernel's own flags are not set by anybody.
const RULE_FLAGS: u32 = 2;
/// Priority and table of the rules that every namespace begins with.
const USUAL_RULES: [(u32, u32); 3] = [(0, 255), (32766, 254), (32767, 253)];
/// Files that say how an interface behaves in IPv6, in the order of their writing.
const IPV6_SETTINGS: [&str; 3] = ["disable_ipv6", "accept_ra", "autoconf"];

/// An interface of the namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mac: Vec<u8>,
    pub(super) mtu: u32,
    up: bool,
    ethernet: bool,
    loopback: bool,
    /// Part of a bridge or the like, which has the traffic.
    enslaved: bool,
    /// What drives it: `veth`, `tun`, `bridge`... Empty for hardware.
    kind: String,
    /// Frames on it don't find their way by hardware addresses, though it has one.
    routed: Option<&'static str>,
}

impl Link {
    /// Whether it can be had in a machine: an interface that is up, speaks Ethernet, and
    /// is neither part of another nor one of our taps.
    pub(super) fn is_usable(&self) -> bool {
        let alone = !self.enslaved && !tap::is_one(&self.name, &self.kind);
        self.up && self.ethernet && alone && self.mac.len() == size_of::<Mac>()
    }

    /// Its name and kind, for people.
    pub(super) fn described(&self) -> String {
        if self.kind.is_empty() {
            return self.name.clone();
        }
        format!("{} ({})", self.name, self.kind)
    }

    /// # Errors
    /// It was made for the container and looks usable, but is of a kind whose traffic
    /// can't be led into a machine.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self.routed {
            Some(fix) => Err(Error::Kind {
                name: self.described(),
                fix,
            }),
            None => Ok(()),
        }
    }

    /// Why it can't be had, where somebody might expect that.
    fn complaint(&self) -> Option<String> {
        let foreign = self.up && !self.ethernet && !self.loopback;
        foreign.then(|| {
            format!(
                "interface {} of the network namespace is not an Ethernet one: the container doesn't have it",
                self.described()
            )
        })
    }
}

/// Everything there is in a namespace.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Picture {
    pub(super) links: Vec<Link>,
    addresses: Vec<(u32, Address)>,
    neighbours: Vec<(u32, Neighbour)>,
    routes: Vec<Route>,
    /// Lines on routes that can't be had in a guest.
    beyond: Vec<String>,
    rules: Vec<Vec<u8>>,
}

/// Reads the interfaces of the namespace of `socket`, and nothing else of it.
pub(super) fn links(socket: &Socket) -> io::Result<Vec<Link>> {
    let links = ask(socket, libc::RTM_GETLINK, 0, LINK_LEN)?;
    Ok(links.iter().filter_map(link).collect())
}

/// Number of `lo` among `links`.
pub(super) fn loopback(links: &[Link]) -> Option<u32> {
    let mut links = links.iter();
    links.find(|link| link.loopback).map(|link| link.index)
}

/// Dumps all of one kind and family, whose request begins with `len` bytes.
fn ask(socket: &Socket, kind: u16, family: u8, len: usize) -> io::Result<Vec<Answer>> {
    let mut header = vec![0; len];
    header.iter_mut().take(1).for_each(|byte| *byte = family);
    socket.list(&Message::new(kind, 0, &header))
}

impl Picture {
    /// Reads the namespace of `socket`. Without usable interfaces only the links.
    pub(super) fn take(socket: &Socket) -> io::Result<Self> {
        let ask = |kind, family, len| ask(socket, kind, family, len);
        let links = links(socket)?;
        if !links.iter().any(|link| link.is_usable()) {
            return Ok(Self {
                links,
                ..Default::default()
            });
        }
        let addresses = ask(libc::RTM_GETADDR, 0, ADDRESS_LEN)?;
        let neighbours = ask(libc::RTM_GETNEIGH, 0, NEIGHBOUR_LEN)?;
        let (mut routes, mut beyond) = (Vec::new(), Vec::new());
        let mut rules = Vec::new();
        let names: BTreeMap<u32, String> = links
            .iter()
            .map(|link| (link.index, link.name.clone()))
            .collect();
        for family in [INET, INET6] {
            // A kernel without IPv6 has none of either.
            let found = ask(libc::RTM_GETROUTE, family, routes::HEADER_LEN).unwrap_or_default();
            for one in found.iter().filter_map(|one| routes::parse(one, &names)) {
                match one {
                    Found::Route(route) => routes.push(route),
                    Found::Beyond(line) => beyond.push(line),
                }
            }
            let found = ask(libc::RTM_GETRULE, family, RULE_LEN).unwrap_or_default();
            rules.extend(found.iter().filter_map(rule));
        }
        Ok(Self {
            links,
            addresses: addresses.iter().filter_map(address).collect(),
            neighbours: neighbours.iter().filter_map(neighbour).collect(),
            routes,
            beyond,
            rules,
        })
    }

    /// What of it a guest with the interfaces `plugged` does not have, though somebody
    /// might expect it.
    pub(super) fn complaints(&self, plugged: &[&str]) -> Vec<String> {
        let links = self.links.iter().filter_map(Link::complaint);
        let loopback = self.on_loopback().map(|address| {
            format!("address {address} on lo of the network namespace can't be had in a machine: the container doesn't have it")
        });
        let elsewhere = |route: &Route| {
            let mut hops = route.next_hops.iter();
            let hop = hops.find(|hop| !plugged.contains(&hop.interface.as_str()))?;
            Some(format!(
                "route {} of the network namespace leads to interface {}, which the container doesn't have: it doesn't have the route",
                routes::shown(route),
                hop.interface
            ))
        };
        let routes = self.routes.iter().filter_map(elsewhere);
        links
            .chain(loopback)
            .chain(self.beyond.iter().cloned())
            .chain(routes)
            .collect()
    }

    /// Number of `lo`.
    pub(super) fn loopback(&self) -> Option<u32> {
        loopback(&self.links)
    }

    /// Those of one interface.
    pub(super) fn ipv4_addresses(&self, index: u32) -> Vec<Ipv4Addr> {
        let own = self.addresses.iter().filter(|(owner, _)| *owner == index);
        own.filter_map(|(_, address)| {
            Some(Ipv4Addr::from(<[u8; 4]>::try_from(&*address.local).ok()?))
        })
        .collect()
    }

    /// Addresses of `lo` that not every namespace has.
    fn on_loopback(&self) -> impl Iterator<Item = IpAddr> {
        let own = |index: u32| {
            let mut links = self.links.iter();
            links.any(|link| link.index == index && link.loopback)
        };
        let on_it = self.addresses.iter().filter(move |(index, _)| own(*index));
        let all = on_it.filter_map(|(_, address)| routes::address(&address.local));
        all.filter(|address| !address.is_loopback())
    }

    /// What the guest is told when it has these links, each behind the device with
    /// this address.
    pub(super) fn configuration<'a>(
        &self,
        plugged: impl Iterator<Item = (&'a Link, Mac)>,
    ) -> NetworkConfiguration {
        let interfaces: Vec<Interface> = plugged
            .map(|(link, device_mac)| self.interface(link, device_mac))
            .collect();
        if interfaces.is_empty() {
            return NetworkConfiguration::default();
        }
        let has = |name: &str| interfaces.iter().any(|one| one.name == name);
        let mut routes: Vec<Route> = self
            .routes
            .iter()
            .filter(|route| route.next_hops.iter().all(|hop| has(&hop.interface)))
            .cloned()
            .collect();
        // A gateway has to be reachable by the time it is named.
        routes.sort_by_key(|route| route.next_hops.iter().any(|hop| !hop.gateway.is_empty()));
        NetworkConfiguration {
            interfaces,
            routes,
            rules: self.rules.clone(),
            ..Default::default()
        }
    }

    fn interface(&self, link: &Link, device_mac: Mac) -> Interface {
        fn of<T: Clone>(index: u32, all: &[(u32, T)]) -> Vec<T> {
            let own = all.iter().filter(|(owner, _)| *owner == index);
            own.map(|(_, one)| one.clone()).collect()
        }
        Interface {
            device_mac: device_mac.to_vec(),
            name: link.name.clone(),
            mac: link.mac.clone(),
            mtu: link.mtu,
            addresses: of(link.index, &self.addresses),
            neighbours: of(link.index, &self.neighbours),
            ipv6_settings: ipv6_settings(&link.name),
            ..Default::default()
        }
    }
}

/// The files show the network namespace of whoever reads them.
fn ipv6_settings(name: &str) -> std::collections::HashMap<String, String> {
    let read = |file: &str| {
        let path = format!("/proc/sys/net/ipv6/conf/{name}/{file}");
        let value = fs::read_to_string(path).ok()?;
        Some((file.to_owned(), value.trim().to_owned()))
    };
    IPV6_SETTINGS.into_iter().filter_map(read).collect()
}

fn link(answer: &Answer) -> Option<Link> {
    let (header, attributes) = answer.split(LINK_LEN)?;
    let hardware = u16::from_ne_bytes(header.get(2..4)?.try_into().ok()?);
    let flags = number(header.get(8..)?)?;
    let details = Attributes(attributes.find(libc::IFLA_LINKINFO).unwrap_or_default());
    let kind = details.find(INFO_KIND).map(text).unwrap_or_default();
    let parameters = details.find(INFO_DATA).unwrap_or_default();
    Some(Link {
        routed: routed(&kind, Attributes(parameters)),
        kind,
        index: number(header.get(4..)?)?,
        name: attributes.find(libc::IFLA_IFNAME).map(text)?,
        mac: attributes
            .find(libc::IFLA_ADDRESS)
            .unwrap_or_default()
            .to_vec(),
        mtu: attributes.find(libc::IFLA_MTU).and_then(number)?,
        up: flags & libc::IFF_UP.unsigned_abs() != 0,
        ethernet: hardware == libc::ARPHRD_ETHER,
        loopback: hardware == libc::ARPHRD_LOOPBACK,
        enslaved: attributes.find(libc::IFLA_MASTER).is_some(),
    })
}

/// What to use instead of an interface of this kind, if its frames find their way by
/// routes of the host alone.
fn routed(kind: &str, parameters: Attributes<'_>) -> Option<&'static str> {
    match kind {
        "ipvlan" => {
            let mode = parameters.find(IPVLAN_MODE)?.first().copied();
            (mode != Some(IPVLAN_L2)).then_some("use ipvlan's mode l2, or macvlan")
        }
        "vrf" => Some("leave the VRF on the host, and give the container one of its interfaces"),
        _ => None,
    }
}

fn address(answer: &Answer) -> Option<(u32, Address)> {
    let (header, attributes) = answer.split(ADDRESS_LEN)?;
    let [family, prefix_length, few_flags, scope, ..] = *header else {
        return None;
    };
    let flags = attributes.find(libc::IFA_FLAGS).and_then(number);
    let flags = flags.unwrap_or_else(|| few_flags.into());
    let far = attributes.find(libc::IFA_ADDRESS);
    let local = attributes.find(libc::IFA_LOCAL).or(far)?;
    let lasting = flags & libc::IFA_F_PERMANENT != 0;
    let refused = flags & libc::IFA_F_DADFAILED != 0;
    // The guest hears of those that a router gives by itself.
    if refused || (family == INET6 && !lasting) {
        return None;
    }
    let address = Address {
        local: local.to_vec(),
        prefix_length: prefix_length.into(),
        peer: far.filter(|far| *far != local).unwrap_or_default().to_vec(),
        broadcast: attributes
            .find(libc::IFA_BROADCAST)
            .unwrap_or_default()
            .to_vec(),
        scope: scope.into(),
        tentative: flags & libc::IFA_F_TENTATIVE != 0,
        ..Default::default()
    };
    Some((number(header.get(4..)?)?, address))
}

fn neighbour(answer: &Answer) -> Option<(u32, Neighbour)> {
    let (header, attributes) = answer.split(NEIGHBOUR_LEN)?;
    let state = u16::from_ne_bytes(header.get(8..10)?.try_into().ok()?);
    let mac = attributes.find(NEIGHBOUR_MAC)?;
    if state & PERMANENT == 0 || mac.len() != 6 {
        return None;
    }
    let neighbour = Neighbour {
        address: attributes.find(NEIGHBOUR_ADDRESS)?.to_vec(),
        mac: mac.to_vec(),
        ..Default::default()
    };
    Some((number(header.get(4..)?)?, neighbour))
}

/// The rule as a request has it; `None` for those that are there anyway.
fn rule(answer: &Answer) -> Option<Vec<u8>> {
    let (header, attributes) = answer.split(RULE_LEN)?;
    let priority = attributes.find(RULE_PRIORITY).and_then(number).unwrap_or(0);
    let table = attributes.find(RULE_TABLE).and_then(number).unwrap_or(0);
    if USUAL_RULES.contains(&(priority, table)) {
        return None;
    }
    let (start, flags) = header.split_at(8);
    let flags = number(flags)? & RULE_FLAGS;
    let all: Vec<(u16, &[u8])> = attributes.collect();
    Some([start, &flags.to_ne_bytes(), &Message::nested(&all)].concat())
}

#[cfg(test)]
#[path = "scan_test.rs"]
mod tests;
