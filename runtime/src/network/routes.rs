//! Routes of a namespace as plain data.

use std::collections::BTreeMap;
use std::net::IpAddr;

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

/// What carries over of a route, and what may be left out of it: its number in a cache.
const CARRIED: [u16; 9] = [
    libc::RTA_DST,
    libc::RTA_OIF,
    libc::RTA_GATEWAY,
    libc::RTA_PRIORITY,
    libc::RTA_PREFSRC,
    libc::RTA_METRICS,
    libc::RTA_MULTIPATH,
    libc::RTA_TABLE,
    libc::RTA_VIA,
];
const HARMLESS: [u16; 3] = [libc::RTA_CACHEINFO, RTA_PAD, RTA_NH_ID];
const RTA_PREF: u16 = 20;
const RTA_PAD: u16 = 24;
const RTA_NH_ID: u16 = 30;
/// Names of others, as ip-route(8) has them.
const BEYOND: [(u16, &str); 7] = [
    (2, "a source prefix (from)"),
    (11, "a realm"),
    (19, "a new destination (as)"),
    (RTA_PREF, "a router's preference (pref)"),
    (21, "an encapsulation (encap)"),
    (22, "an encapsulation (encap)"),
    (26, "a rule for the TTL (ttl-propagate)"),
];

/// What becomes of a route.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found {
    /// A guest is told of it.
    Route(Route),
    /// It can't be had in a guest; one line that says so.
    Beyond(String),
}

/// Reads a route; `names` has the interfaces by number. `None` for those that a guest
/// has by itself.
pub(super) fn parse(answer: &Answer, names: &BTreeMap<u32, String>) -> Option<Found> {
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
    if table == TABLE_LOCAL || flags & CLONED != 0 || HEARD.contains(&protocol) {
        return None;
    }
    let bytes = |kind| attributes.find(kind).unwrap_or_default().to_vec();
    let mut route = Route {
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
        metrics: bytes(libc::RTA_METRICS),
        type_of_service: tos.into(),
        ..Default::default()
    };
    let beyond = |what: &str| {
        let line = format!(
            "route {} of the network namespace has {what}, which can't be had in a machine: the container doesn't have the route",
            shown(&route)
        );
        Some(Found::Beyond(line))
    };
    if kind != UNICAST && !NOWHERE.contains(&kind) {
        return beyond(&format!("type {kind} of rtnetlink(7)"));
    }
    if let Some(what) = not_carried(attributes) {
        return beyond(&what);
    }
    let hops = match attributes.find(libc::RTA_MULTIPATH) {
        Some(hops) => several(hops, names),
        None if kind == UNICAST => single(attributes, flags, names).map(|hop| vec![hop]),
        None => Ok(Vec::new()),
    };
    match hops {
        Ok(hops) => route.next_hops = hops,
        Err(what) => return beyond(&what),
    }
    Some(Found::Route(route))
}

/// As ip-route(8) shows it.
pub(super) fn shown(route: &Route) -> String {
    match address(&route.destination) {
        Some(address) => format!("{address}/{}", route.prefix_length),
        None => "default".to_owned(),
    }
}

/// The address of four or sixteen bytes.
pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let sixteen = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| sixteen()).ok()
}

/// What of a route or of its next hop would be lost.
fn not_carried(attributes: Attributes<'_>) -> Option<String> {
    let is_lost = |(kind, value): &(u16, &[u8])| {
        // 0 is what every route of IPv6 has.
        let usual = *kind == RTA_PREF && value.iter().all(|byte| *byte == 0);
        !CARRIED.contains(kind) && !HARMLESS.contains(kind) && !usual
    };
    let mut lost = attributes.filter(is_lost);
    let (kind, _) = lost.next()?;
    let named = BEYOND.iter().find(|(one, _)| *one == kind);
    Some(named.map_or_else(
        || format!("attribute {kind} of rtnetlink(7)"),
        |(_, name)| (*name).to_owned(),
    ))
}

fn single(
    attributes: Attributes<'_>,
    flags: u32,
    names: &BTreeMap<u32, String>,
) -> Result<NextHop, String> {
    Ok(NextHop {
        interface: interface(attributes.find(libc::RTA_OIF).and_then(number), names)?,
        gateway: gateway(attributes),
        on_link: flags & ON_LINK != 0,
        ..Default::default()
    })
}

fn interface(index: Option<u32>, names: &BTreeMap<u32, String>) -> Result<String, String> {
    let name = index.and_then(|index| names.get(&index));
    name.cloned().ok_or_else(|| "no known interface".to_owned())
}

/// A list of `struct rtnexthop`, each with attributes.
fn several(mut hops: &[u8], names: &BTreeMap<u32, String>) -> Result<Vec<NextHop>, String> {
    let mut all = Vec::new();
    while let Some([low, high, flags, weight, ..]) = hops.get(..HOP_LEN) {
        let length = usize::from(u16::from_ne_bytes([*low, *high]));
        let rest = hops.get(HOP_LEN..length);
        let attributes = Attributes(rest.ok_or("a next hop that is cut off")?);
        if let Some(what) = not_carried(attributes) {
            return Err(what);
        }
        all.push(NextHop {
            interface: interface(hops.get(4..).and_then(number), names)?,
            gateway: gateway(attributes),
            on_link: u32::from(*flags) & ON_LINK != 0,
            weight: (*weight).into(),
            ..Default::default()
        });
        hops = hops.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(all)
}

/// `RTA_VIA` has the family before the address.
fn gateway(attributes: Attributes<'_>) -> Vec<u8> {
    let via = attributes.find(libc::RTA_VIA).and_then(|via| via.get(2..));
    let gateway = attributes.find(libc::RTA_GATEWAY).or(via);
    gateway.unwrap_or_default().to_vec()
}
