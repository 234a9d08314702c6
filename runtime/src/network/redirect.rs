//! The wire between an interface and its tap: all that arrives on the one leaves by
//! the other, before the host's own network stack sees any of it (tc-mirred(8)).

use std::io;
use std::net::Ipv4Addr;

use caisson_netlink::{Answer, Attributes, Message, Socket, number};
use nix::libc;

/// Handle and parent of an ingress qdisc (linux/pkt_sched.h).
const INGRESS_HANDLE: u32 = 0xffff_0000;
const INGRESS_PARENT: u32 = 0xffff_fff1;
/// Parent of filters on the way out, with the qdisc clsact (`TC_H_MIN_EGRESS`).
const EGRESS_PARENT: u32 = 0xffff_fff3;
/// By this preference a filter is known as ours.
const PREFERENCE: u32 = 0xca15;
/// That of filters for one address, which come before.
const ADDRESS_PREFERENCE: u32 = PREFERENCE - 1;
/// `ETH_P_ALL` in network order.
const ALL_PROTOCOLS: u32 = 0x0300;
/// `ETH_P_IP` in network order.
const IPV4: u32 = 0x0008;
/// `TC_ACT_STOLEN`: the packet is dealt with.
const STOLEN: u32 = 4;
/// `TCA_EGRESS_REDIR`
const EGRESS_REDIRECT: u32 = 1;
/// Length of `struct tcmsg`.
const HEADER_LEN: usize = 20;
/// Where the target's number is in `struct tc_mirred`.
const TARGET_AT: usize = 24;
/// The kernel may still be about to take away a qdisc that was there before.
const ATTEMPTS: usize = 1000;

const KIND: u16 = 1;
const OPTIONS: u16 = 2;
/// `TCA_U32_SEL`, `TCA_U32_ACT`
const SELECTOR: u16 = 5;
const ACTIONS: u16 = 7;
/// `TCA_ACT_KIND`, `TCA_ACT_OPTIONS`, `TCA_MIRRED_PARMS`
const ACTION_KIND: u16 = 1;
const ACTION_OPTIONS: u16 = 2;
const MIRRED_PARAMETERS: u16 = 2;

/// What is on the way into an interface already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ingress {
    /// Nothing.
    Free,
    /// A redirect of ours to the interface of this number, 0 for one that is gone.
    Ours(u32),
    /// Something else.
    Foreign,
}

/// Leads what arrives on the interface `from` out of the interface `to`.
pub(super) fn add(socket: &Socket, from: u32, to: u32) -> io::Result<()> {
    add_qdisc(socket, from)?;
    let filter = filter_message(Filter {
        interface: from,
        parent: INGRESS_HANDLE,
        takes: Match::All,
        to,
    });
    socket.change(&filter).inspect_err(|_| {
        // The first error is the one that tells.
        drop(remove(socket, from));
    })
}

/// Leads what arrives on the interface `from` and matches out of the interface `to`,
/// before all that [`add`] leads elsewhere.
pub(super) fn add_matching(socket: &Socket, from: u32, takes: Match, to: u32) -> io::Result<()> {
    add_qdisc(socket, from)?;
    socket.change(&filter_message(Filter {
        interface: from,
        parent: INGRESS_HANDLE,
        takes,
        to,
    }))
}

/// An address of the namespace's own whose traffic an interface has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leading {
    pub(super) address: Ipv4Addr,
    pub(super) to: u32,
}

/// Leads what programs of the namespace send by `lo`, the interface of this number, to
/// these addresses out of those interfaces, and nothing else.
///
/// # Errors
/// The kernel's; `lo` may be somebody else's already ([`io::ErrorKind::ResourceBusy`]).
pub(super) fn lead_own_addresses(socket: &Socket, lo: u32, all: &[Leading]) -> io::Result<()> {
    match look_at_egress(socket, lo)? {
        Ingress::Foreign => return Err(io::ErrorKind::ResourceBusy.into()),
        Ingress::Ours(_) => remove(socket, lo)?,
        Ingress::Free => {}
    }
    if all.is_empty() {
        return Ok(());
    }
    let header = header(lo, INGRESS_HANDLE, INGRESS_PARENT, 0);
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    socket.change(&Message::new(libc::RTM_NEWQDISC, flags, &header).with_text(KIND, "clsact"))?;
    for leading in all {
        socket.change(&filter_message(Filter {
            interface: lo,
            parent: EGRESS_PARENT,
            takes: Match::Target(leading.address),
            to: leading.to,
        }))?;
    }
    Ok(())
}

/// What is on the way out of an interface already.
pub(super) fn look_at_egress(socket: &Socket, index: u32) -> io::Result<Ingress> {
    look_at(socket, index, EGRESS_PARENT)
}

/// Lets the host have what arrives on the interface, and what leaves by it.
pub(super) fn remove(socket: &Socket, index: u32) -> io::Result<()> {
    let header = header(index, INGRESS_HANDLE, INGRESS_PARENT, 0);
    socket.change(&Message::new(libc::RTM_DELQDISC, 0, &header))
}

/// What is there now.
pub(super) fn look(socket: &Socket, index: u32) -> io::Result<Ingress> {
    look_at(socket, index, INGRESS_HANDLE)
}

fn look_at(socket: &Socket, index: u32, parent: u32) -> io::Result<Ingress> {
    let qdiscs = socket.list(&Message::new(libc::RTM_GETQDISC, 0, &header(0, 0, 0, 0)))?;
    let is_ingress = |answer: &Answer| {
        let head = answer.split(HEADER_LEN).map(|(header, _)| header);
        head.is_some_and(|header| {
            field(header, 4) == Some(index) && field(header, 8) == Some(INGRESS_HANDLE)
        })
    };
    if !qdiscs.iter().any(is_ingress) {
        return Ok(Ingress::Free);
    }
    let ask = header(index, 0, parent, 0);
    let filters = socket.list(&Message::new(libc::RTM_GETTFILTER, 0, &ask))?;
    let mut found = Ingress::Free;
    for (header, attributes) in filters.iter().filter_map(|one| one.split(HEADER_LEN)) {
        let preference = field(header, 16).map(|information| information >> 16);
        if !matches!(preference, Some(PREFERENCE | ADDRESS_PREFERENCE)) {
            return Ok(Ingress::Foreign);
        }
        // The hash table of a filter comes as a filter of its own, without a target.
        match (target(attributes), found) {
            (Some(target), _) => found = Ingress::Ours(target),
            (None, Ingress::Free) => found = Ingress::Ours(0),
            _ => {}
        }
    }
    Ok(found)
}

fn add_qdisc(socket: &Socket, index: u32) -> io::Result<()> {
    let header = header(index, INGRESS_HANDLE, INGRESS_PARENT, 0);
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let message = Message::new(libc::RTM_NEWQDISC, flags, &header).with_text(KIND, "ingress");
    for _ in 1..ATTEMPTS {
        match socket.change(&message) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => std::thread::yield_now(),
            // One without filters, which does nothing.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            result => return result,
        }
    }
    socket.change(&message)
}

/// What a filter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// Every packet.
    All,
    /// IPv4 from this address.
    Source(Ipv4Addr),
    /// IPv4 to this address.
    Target(Ipv4Addr),
}

impl Match {
    /// Filters of one preference are all of one protocol, in network order.
    const fn protocol(self) -> u32 {
        match self {
            Self::All => ALL_PROTOCOLS,
            Self::Source(_) | Self::Target(_) => IPV4,
        }
    }

    /// Those that take less come first.
    const fn preference(self) -> u32 {
        match self {
            Self::All => PREFERENCE,
            Self::Source(_) | Self::Target(_) => ADDRESS_PREFERENCE,
        }
    }

    /// `struct tc_u32_key`: mask, value, offset in the packet, and what is not used.
    fn key(self) -> [u8; 16] {
        let (mask, value, offset) = match self {
            Self::All => (0, [0; 4], 0),
            Self::Source(address) => (u32::MAX, address.octets(), 12),
            Self::Target(address) => (u32::MAX, address.octets(), 16_u32),
        };
        let mut key = [0; 16];
        let fields = [mask.to_ne_bytes(), value, offset.to_ne_bytes()];
        for (byte, new) in key.iter_mut().zip(fields.into_iter().flatten()) {
            *byte = new;
        }
        key
    }
}

/// Where a filter is, and what it does.
#[derive(Debug, Clone, Copy)]
struct Filter {
    interface: u32,
    parent: u32,
    takes: Match,
    to: u32,
}

/// A u32 filter.
fn filter_message(filter: Filter) -> Message {
    let Filter {
        interface,
        parent,
        takes,
        to,
    } = filter;
    let terminal = 1;
    let keys = 1;
    let mut selector = vec![terminal, 0, keys, 0];
    // The rest of the selector is zero.
    selector.resize(16, 0);
    selector.extend(takes.key());
    let parameters: Vec<u8> = [0, 0, STOLEN, 0, 0, EGRESS_REDIRECT, to]
        .into_iter()
        .flat_map(u32::to_ne_bytes)
        .collect();
    let options = Message::nested(&[(MIRRED_PARAMETERS, &parameters)]);
    let action = Message::nested(&[(ACTION_KIND, b"mirred\0"), (ACTION_OPTIONS, &options)]);
    let first = 1;
    let actions = Message::nested(&[(first, &action)]);
    let information = takes.preference() << 16 | takes.protocol();
    let header = header(interface, 0, parent, information);
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    Message::new(libc::RTM_NEWTFILTER, flags, &header)
        .with_text(KIND, "u32")
        .with_nested(OPTIONS, &[(SELECTOR, &selector), (ACTIONS, &actions)])
}

/// Where a filter of ours leads to.
fn target(filter: Attributes<'_>) -> Option<u32> {
    let first = 1;
    let options = Attributes(filter.find(OPTIONS)?);
    let action = Attributes(Attributes(options.find(ACTIONS)?).find(first)?);
    let parameters = Attributes(action.find(ACTION_OPTIONS)?).find(MIRRED_PARAMETERS)?;
    number(parameters.get(TARGET_AT..)?)
}

fn header(index: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    let fields = [0, index, handle, parent, info];
    fields.into_iter().flat_map(u32::to_ne_bytes).collect()
}

fn field(header: &[u8], at: usize) -> Option<u32> {
    number(header.get(at..)?)
}
