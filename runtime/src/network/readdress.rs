//! Packets between a namespace's programs and the guest that has the same address.
//!
//! Both ends have one address, so neither could answer the other: to the guest the
//! namespace's end is [`ALIAS`]. Owns the change of addresses in one frame, and what
//! the guest may send that way: answers alone. A guest's frames are hostile.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv4Message, Icmpv4Packet, IpAddress,
    IpProtocol, Ipv4Packet, TcpPacket, UdpPacket,
};

use crate::network::Mac;

/// The address of the namespace's end in the guest: the IPv4 dummy address (RFC 7600),
/// which nobody else has. The guest answers it by its default route.
pub(super) const ALIAS: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);
/// Pairs of UDP ports that the guest may answer; with one more all are forgotten.
const MAX_FLOWS: usize = 1024;

/// Both ends of the relay of one interface.
#[derive(Debug)]
pub(super) struct Ends {
    /// Hardware address of the guest's interface.
    pub(super) guest: Mac,
    /// Hardware address of the relay's tap.
    pub(super) relay: Mac,
    udp_flows: HashSet<UdpFlow>,
}

/// What a program of the namespace has sent, and may have an answer to.
#[derive(Debug, PartialEq, Eq, Hash)]
struct UdpFlow {
    address: Ipv4Addr,
    namespace_port: u16,
    guest_port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToGuest,
    FromGuest,
}

impl Ends {
    /// Nothing was sent yet.
    pub(super) fn new(guest: Mac, relay: Mac) -> Self {
        Self {
            guest,
            relay,
            udp_flows: HashSet::new(),
        }
    }

    /// Changes the addresses of an Ethernet frame so that its receiver takes it and
    /// answers; `own` are the addresses that both have. Returns whether the frame is to
    /// be sent on; if not, it is one that nobody may send.
    pub(super) fn readdress(&mut self, frame: &mut [u8], own: &[Ipv4Addr]) -> bool {
        self.try_readdress(frame, own).is_some()
    }

    fn try_readdress(&mut self, frame: &mut [u8], own: &[Ipv4Addr]) -> Option<()> {
        let mut frame = EthernetFrame::new_checked(frame).ok()?;
        if frame.ethertype() != EthernetProtocol::Ipv4 {
            return None;
        }
        let mut packet = Ipv4Packet::new_checked(frame.payload_mut()).ok()?;
        let (source, target) = (packet.src_addr(), packet.dst_addr());
        let direction = if target == ALIAS {
            Direction::FromGuest
        } else {
            Direction::ToGuest
        };
        let is_own =
            own.contains(&source) && (direction == Direction::FromGuest || source == target);
        if !is_own {
            return None;
        }
        // Only the first fragment has ports and a checksum.
        let is_first = packet.frag_offset() == 0;
        if is_first && !self.is_allowed(&packet, direction) {
            return None;
        }
        let (new_source, new_target) = match direction {
            Direction::ToGuest => (ALIAS, target),
            Direction::FromGuest => (source, source),
        };
        packet.set_src_addr(new_source);
        packet.set_dst_addr(new_target);
        packet.fill_checksum();
        if is_first && !packet.more_frags() {
            fill_inner_checksum(&mut packet)?;
        }
        let (from, to) = match direction {
            Direction::ToGuest => (self.relay, self.guest),
            Direction::FromGuest => (self.guest, self.relay),
        };
        frame.set_src_addr(EthernetAddress(from));
        frame.set_dst_addr(EthernetAddress(to));
        Some(())
    }

    /// The guest answers, and opens no connection of its own: what listens in the
    /// namespace is not meant for it.
    fn is_allowed<T: AsRef<[u8]>>(&mut self, packet: &Ipv4Packet<T>, direction: Direction) -> bool {
        let to_guest = direction == Direction::ToGuest;
        let payload = packet.as_ref().get(usize::from(packet.header_len())..);
        let payload = payload.unwrap_or_default();
        match packet.next_header() {
            IpProtocol::Tcp => TcpPacket::new_checked(payload)
                .is_ok_and(|segment| to_guest || segment.ack() || segment.rst()),
            IpProtocol::Udp => UdpPacket::new_checked(payload)
                .is_ok_and(|datagram| self.allows_datagram(packet.src_addr(), &datagram, to_guest)),
            IpProtocol::Icmp => Icmpv4Packet::new_checked(payload)
                .is_ok_and(|message| to_guest || message.msg_type() == Icmpv4Message::EchoReply),
            _ => false,
        }
    }

    fn allows_datagram(
        &mut self,
        address: Ipv4Addr,
        datagram: &UdpPacket<&[u8]>,
        to_guest: bool,
    ) -> bool {
        let (source, target) = (datagram.src_port(), datagram.dst_port());
        let (namespace_port, guest_port) = if to_guest {
            (source, target)
        } else {
            (target, source)
        };
        let flow = UdpFlow {
            address,
            namespace_port,
            guest_port,
        };
        if !to_guest {
            return self.udp_flows.contains(&flow);
        }
        if self.udp_flows.len() >= MAX_FLOWS {
            self.udp_flows.clear();
        }
        self.udp_flows.insert(flow);
        true
    }
}

/// TCP and UDP count the addresses in their checksums.
fn fill_inner_checksum(packet: &mut Ipv4Packet<&mut [u8]>) -> Option<()> {
    let source = IpAddress::Ipv4(packet.src_addr());
    let target = IpAddress::Ipv4(packet.dst_addr());
    match packet.next_header() {
        IpProtocol::Tcp => {
            TcpPacket::new_checked(packet.payload_mut())
                .ok()?
                .fill_checksum(&source, &target);
        }
        IpProtocol::Udp => {
            UdpPacket::new_checked(packet.payload_mut())
                .ok()?
                .fill_checksum(&source, &target);
        }
        _ => {}
    }
    Some(())
}

#[cfg(test)]
#[path = "readdress_test.rs"]
mod tests;
