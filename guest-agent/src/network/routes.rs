//! Routes and policy rules, in the kernel's words.

use caisson_netlink::{INET, INET6, Message, Socket};
use caisson_protocol::server::agent::{NextHop, Route};

use super::interface::family_of;
use crate::failure::{Errno, Failure};

/// `RTNH_F_ONLINK` of linux/rtnetlink.h.
const ON_LINK: u32 = 4;
/// Length of `struct fib_rule_hdr`.
const RULE_HEADER_LEN: usize = 12;

/// Adds a route, if it isn't there. Another with the same destination stays: interfaces
/// may share a network, as all do that of link-local addresses.
///
/// # Errors
/// The kernel's refusal, with the route.
pub(super) fn add(
    socket: &Socket,
    route: &Route,
    index_of: impl Fn(&str) -> Option<u32>,
) -> Result<(), Failure> {
    let flags = libc::NLM_F_CREATE | addition(route);
    let message = message(libc::RTM_NEWROUTE, flags, route, index_of)?;
    match socket.change(&message) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        result => {
            result.map_err(|error| refused(&format!("add the route {}", shown(route)), error))
        }
    }
}

/// The flag to add a route with. Of a route over several interfaces the kernel keeps the
/// other hops when one of them goes, so such a route replaces what is left of it.
fn addition(route: &Route) -> i32 {
    if route.next_hops.len() > 1 {
        libc::NLM_F_REPLACE
    } else {
        libc::NLM_F_APPEND
    }
}

/// Removes a route; it may have gone already, with its interface or address.
pub(super) fn remove(socket: &Socket, route: &Route, index_of: impl Fn(&str) -> Option<u32>) {
    if let Ok(message) = message(libc::RTM_DELROUTE, 0, route, index_of) {
        drop(socket.change(&message));
    }
}

/// Adds a rule, if it isn't there.
///
/// # Errors
/// The kernel's refusal.
pub(super) fn add_rule(socket: &Socket, rule: &[u8]) -> Result<(), Failure> {
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    match socket.change(&rule_message(libc::RTM_NEWRULE, flags, rule)) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        result => result.map_err(|error| refused("add a policy rule", error)),
    }
}

/// Removes a rule, if it is there.
pub(super) fn remove_rule(socket: &Socket, rule: &[u8]) {
    drop(socket.change(&rule_message(libc::RTM_DELRULE, 0, rule)));
}

/// The attributes are those that the host has sent.
fn rule_message(kind: u16, flags: i32, rule: &[u8]) -> Message {
    let (header, attributes) = rule.split_at(rule.len().min(RULE_HEADER_LEN));
    let attributes = caisson_netlink::Attributes(attributes);
    attributes.fold(
        Message::new(kind, flags, header),
        |message, (kind, value)| message.with(kind, value),
    )
}

fn refused(what: &str, error: std::io::Error) -> Failure {
    let reason = Errno::from(error);
    Failure::Refused(format!("{what}: {reason}"))
}

fn message(
    kind: u16,
    flags: i32,
    route: &Route,
    index_of: impl Fn(&str) -> Option<u32>,
) -> Result<Message, Failure> {
    let index = |hop: &NextHop| {
        index_of(&hop.interface).ok_or_else(|| {
            let line = format!("the route {}: no interface {}", shown(route), hop.interface);
            Failure::Refused(line)
        })
    };
    let narrow = |number: u32| u8::try_from(number).unwrap_or(u8::MAX);
    let on_link = matches!(route.next_hops.as_slice(), [hop] if hop.on_link);
    let header = [
        &[
            if route.ipv6 { INET6 } else { INET },
            narrow(route.prefix_length),
            0,
            narrow(route.type_of_service),
            // The whole number is in an attribute.
            narrow(route.table),
            narrow(route.protocol),
            narrow(route.scope),
            narrow(route.kind),
        ][..],
        &(if on_link { ON_LINK } else { 0 }).to_ne_bytes(),
    ]
    .concat();
    let mut message = Message::new(kind, flags, &header).with_number(libc::RTA_TABLE, route.table);
    for (attribute, value) in [
        (libc::RTA_DST, &route.destination),
        (libc::RTA_PREFSRC, &route.preferred_source),
        (libc::RTA_METRICS, &route.metrics),
    ] {
        if !value.is_empty() {
            message = message.with(attribute, value);
        }
    }
    if route.priority != 0 {
        message = message.with_number(libc::RTA_PRIORITY, route.priority);
    }
    match route.next_hops.as_slice() {
        [] => Ok(message),
        [hop] => {
            let message = message.with_number(libc::RTA_OIF, index(hop)?);
            Ok(match gateway(route, hop) {
                Some((attribute, value)) => message.with(attribute, &value),
                None => message,
            })
        }
        several => {
            let mut hops = Vec::new();
            for hop in several {
                hops.extend(next_hop(route, hop, index(hop)?));
            }
            Ok(message.with(libc::RTA_MULTIPATH, &hops))
        }
    }
}

/// `RTA_VIA` has the family too, for a gateway of the other one.
fn gateway(route: &Route, hop: &NextHop) -> Option<(u16, Vec<u8>)> {
    if hop.gateway.is_empty() {
        return None;
    }
    if (hop.gateway.len() == 16) == route.ipv6 {
        return Some((libc::RTA_GATEWAY, hop.gateway.clone()));
    }
    let family = u16::from(family_of(&hop.gateway)).to_ne_bytes();
    Some((libc::RTA_VIA, [&family[..], &hop.gateway].concat()))
}

/// struct rtnexthop and its attribute
fn next_hop(route: &Route, hop: &NextHop, index: u32) -> Vec<u8> {
    let attribute = gateway(route, hop).map(|(kind, value)| {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &value].concat()
    });
    let attribute = attribute.unwrap_or_default();
    let length = u16::try_from(8 + attribute.len()).unwrap_or(u16::MAX);
    let flags = if hop.on_link { ON_LINK } else { 0 };
    let [flags, ..] = flags.to_le_bytes();
    let weight = u8::try_from(hop.weight).unwrap_or(u8::MAX);
    let mut bytes = [
        &length.to_ne_bytes()[..],
        &[flags, weight],
        &index.to_ne_bytes(),
        &attribute,
    ]
    .concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// As ip-route(8) shows it.
fn shown(route: &Route) -> String {
    let address = address_text(&route.destination);
    if address.is_empty() {
        return "default".to_owned();
    }
    format!("{address}/{}", route.prefix_length)
}

fn address_text(bytes: &[u8]) -> String {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return std::net::Ipv4Addr::from(octets).to_string();
    }
    let octets = <[u8; 16]>::try_from(bytes);
    octets.map_or_else(
        |_| String::new(),
        |octets| std::net::Ipv6Addr::from(octets).to_string(),
    )
}
