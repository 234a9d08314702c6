//! Routes of a namespace as plain data.

use std::collections::BTreeMap;

use caisson_netlink::{Answer, Attributes, INET6, number};
use caisson_protocol::client::agent::{NextHop, Route};
use nix::libc;

/// Length of `struct rtmsg`.
pub(super) const HEADER_LEN: usize = 12;
/// Length of `struct rtnexthop`.
const HOP_LEN: usize = 8;
/// Flags of linux/rtnetlink.h: an entry of a cache; a gateway that is on the link.
const CLONED: u32 = 0x200;
const ON_LINK: u32 = 4;
/// The kernel fills it from addresses.
const TABLE_LOCAL: u32 = 255;
/// `RTPROT_REDIRECT`, `RTPROT_RA`: what routers say, which the guest hears itself.
const HEARD: [u8; 2] = [1, 9];
/// `RTN_UNICAST`, and kinds that lead nowhere: blackhole, unreachable, prohibit, throw.
const UNICAST: u8 = 1;
const NOWHERE: [u8; 4] = [6, 7, 8, 9];

/// A route that a guest is told of; `names` has the interfaces by number.
pub(super) fn parse(answer: &Answer, names: &BTreeMap<u32, String>) -> Option<Route> {
    let (header, attributes) = answer.split(HEADER_LEN)?;
    let [
        family,
        prefix_length,
        _,
        tos,
        table,
        protocol,
        scope,
        kind,
        ..,
    ] = *header
    else {
        return None;
    };
    let flags = number(header.get(8..)?)?;
    let table = attributes
        .find(libc::RTA_TABLE)
        .and_then(number)
        .unwrap_or_else(|| table.into());
    let known = kind == UNICAST || NOWHERE.contains(&kind);
    if !known || table == TABLE_LOCAL || flags & CLONED != 0 || HEARD.contains(&protocol) {
        return None;
    }
    let bytes = |kind| attributes.find(kind).unwrap_or_default().to_vec();
    let next_hops = match attributes.find(libc::RTA_MULTIPATH) {
        Some(hops) => several(hops, names)?,
        None if kind == UNICAST => {
            let index = attributes.find(libc::RTA_OIF).and_then(number)?;
            vec![NextHop {
                interface: names.get(&index)?.clone(),
                gateway: gateway(attributes),
                on_link: flags & ON_LINK != 0,
                ..Default::default()
            }]
        }
        None => Vec::new(),
    };
    Some(Route {
        ipv6: family == INET6,
        destination: bytes(libc::RTA_DST),
        prefix_length: prefix_length.into(),
        preferred_source: bytes(libc::RTA_PREFSRC),
        table,
        protocol: protocol.into(),
        scope: scope.into(),
        kind: kind.into(),
        priority: attributes
            .find(libc::RTA_PRIORITY)
            .and_then(number)
            .unwrap_or(0),
        next_hops,
        metrics: bytes(libc::RTA_METRICS),
        type_of_service: tos.into(),
        ..Default::default()
    })
}

/// A list of `struct rtnexthop`, each with attributes.
fn several(mut hops: &[u8], names: &BTreeMap<u32, String>) -> Option<Vec<NextHop>> {
    let mut all = Vec::new();
    while let Some([low, high, flags, weight, ..]) = hops.get(..HOP_LEN) {
        let length = usize::from(u16::from_ne_bytes([*low, *high]));
        let attributes = Attributes(hops.get(HOP_LEN..length)?);
        let index = number(hops.get(4..)?)?;
        all.push(NextHop {
            interface: names.get(&index)?.clone(),
            gateway: gateway(attributes),
            on_link: u32::from(*flags) & ON_LINK != 0,
            weight: (*weight).into(),
            ..Default::default()
        });
        hops = hops.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(all)
}

/// `RTA_VIA` has the family before the address.
fn gateway(attributes: Attributes<'_>) -> Vec<u8> {
    let via = attributes.find(libc::RTA_VIA).and_then(|via| via.get(2..));
    let gateway = attributes.find(libc::RTA_GATEWAY).or(via);
    gateway.unwrap_or_default().to_vec()
}
