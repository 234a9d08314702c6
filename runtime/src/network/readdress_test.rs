//! Addresses are changed in whole frames, and hostile frames end nothing.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{Icmpv4Repr, TcpControl, TcpRepr, TcpSeqNumber, UdpRepr};

use super::*;

const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);
const GUEST: Mac = [2, 0, 0, 0, 0, 1];
const RELAY: Mac = [2, 0, 0, 0, 0, 2];
const ETHERNET_LEN: usize = 14;
const IPV4_LEN: u8 = 20;

/// A frame of IPv4 with zeros for hardware addresses, as lo has them.
fn frame(source: Ipv4Addr, target: Ipv4Addr, protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; ETHERNET_LEN + usize::from(IPV4_LEN)];
    bytes.extend(payload);
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    frame.set_ethertype(EthernetProtocol::Ipv4);
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    packet.set_version(4);
    packet.set_header_len(IPV4_LEN);
    packet.set_total_len(u16::from(IPV4_LEN) + u16::try_from(payload.len()).unwrap());
    packet.set_hop_limit(64);
    packet.set_next_header(protocol);
    packet.set_src_addr(source);
    packet.set_dst_addr(target);
    packet.fill_checksum();
    bytes
}

fn tcp(source: Ipv4Addr, target: Ipv4Addr, control: TcpControl, ack: bool) -> Vec<u8> {
    let segment = TcpRepr {
        src_port: 5000,
        dst_port: 80,
        control,
        seq_number: TcpSeqNumber(1),
        ack_number: ack.then_some(TcpSeqNumber(2)),
        window_len: 1000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: b"words",
    };
    let mut payload = vec![0; segment.buffer_len()];
    segment.emit(
        &mut TcpPacket::new_unchecked(&mut payload),
        &source.into(),
        &target.into(),
        &ChecksumCapabilities::default(),
    );
    frame(source, target, IpProtocol::Tcp, &payload)
}

fn udp(source: (Ipv4Addr, u16), target: (Ipv4Addr, u16)) -> Vec<u8> {
    let datagram = UdpRepr {
        src_port: source.1,
        dst_port: target.1,
    };
    let text = b"question";
    let mut payload = vec![0; datagram.header_len() + text.len()];
    datagram.emit(
        &mut UdpPacket::new_unchecked(&mut payload),
        &source.0.into(),
        &target.0.into(),
        text.len(),
        |bytes| bytes.copy_from_slice(text),
        &ChecksumCapabilities::default(),
    );
    frame(source.0, target.0, IpProtocol::Udp, &payload)
}

fn echo(source: Ipv4Addr, target: Ipv4Addr, message: Icmpv4Repr<'_>) -> Vec<u8> {
    let mut payload = vec![0; message.buffer_len()];
    message.emit(
        &mut Icmpv4Packet::new_unchecked(&mut payload),
        &ChecksumCapabilities::default(),
    );
    frame(source, target, IpProtocol::Icmp, &payload)
}

/// Hardware and IP addresses, source first; all checksums must be right.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    macs: [Mac; 2],
    source: Ipv4Addr,
    target: Ipv4Addr,
}

fn look(bytes: &[u8]) -> Seen {
    let frame = EthernetFrame::new_checked(bytes).unwrap();
    let packet = Ipv4Packet::new_checked(frame.payload()).unwrap();
    let (source, target) = (packet.src_addr(), packet.dst_addr());
    assert!(packet.verify_checksum());
    let ends = (IpAddress::Ipv4(source), IpAddress::Ipv4(target));
    let is_right = match packet.next_header() {
        IpProtocol::Tcp => TcpPacket::new_checked(packet.payload())
            .unwrap()
            .verify_checksum(&ends.0, &ends.1),
        IpProtocol::Udp => UdpPacket::new_checked(packet.payload())
            .unwrap()
            .verify_checksum(&ends.0, &ends.1),
        _ => true,
    };
    assert!(is_right);
    Seen {
        macs: [frame.src_addr().0, frame.dst_addr().0],
        source,
        target,
    }
}

fn ends() -> Ends {
    Ends::new(GUEST, RELAY)
}

#[test]
fn a_connection_and_its_answers_pass() {
    let mut ends = ends();
    let mut there = tcp(OWN, OWN, TcpControl::Syn, false);
    assert!(ends.readdress(&mut there, &[OWN]));
    let seen = Seen {
        macs: [RELAY, GUEST],
        source: ALIAS,
        target: OWN,
    };
    assert_eq!(look(&there), seen);
    let mut back = tcp(OWN, ALIAS, TcpControl::Syn, true);
    assert!(ends.readdress(&mut back, &[OWN]));
    let seen = Seen {
        macs: [GUEST, RELAY],
        source: OWN,
        target: OWN,
    };
    assert_eq!(look(&back), seen);
}

#[test]
fn the_guest_opens_no_connection() {
    let mut ends = ends();
    assert!(!ends.readdress(&mut tcp(OWN, ALIAS, TcpControl::Syn, false), &[OWN]));
    assert!(!ends.readdress(&mut tcp(OWN, ALIAS, TcpControl::None, false), &[OWN]));
    assert!(ends.readdress(&mut tcp(OWN, ALIAS, TcpControl::Rst, false), &[OWN]));
    let message = Icmpv4Repr::EchoRequest {
        ident: 1,
        seq_no: 1,
        data: b"",
    };
    assert!(!ends.readdress(&mut echo(OWN, ALIAS, message), &[OWN]));
    assert!(ends.readdress(&mut echo(OWN, OWN, message), &[OWN]));
}

#[test]
fn datagrams_of_the_guest_are_answers() {
    let mut ends = ends();
    let answer = || udp((OWN, 53), (ALIAS, 4000));
    assert!(!ends.readdress(&mut answer(), &[OWN]));
    let mut question = udp((OWN, 4000), (OWN, 53));
    assert!(ends.readdress(&mut question, &[OWN]));
    assert_eq!(look(&question).source, ALIAS);
    let mut bytes = answer();
    assert!(ends.readdress(&mut bytes, &[OWN]));
    assert_eq!(look(&bytes).target, OWN);
    assert!(!ends.readdress(&mut udp((OWN, 53), (ALIAS, 4001)), &[OWN]));
    for port in 0..=u16::try_from(MAX_FLOWS).unwrap() {
        assert!(ends.readdress(&mut udp((OWN, port), (OWN, 9)), &[OWN]));
    }
    assert!(ends.udp_flows.len() <= MAX_FLOWS);
}

#[test]
fn addresses_of_others_do_not_pass() {
    let mut ends = ends();
    let other = Ipv4Addr::new(10, 0, 2, 3);
    for (source, target) in [(other, ALIAS), (other, OWN), (OWN, other), (other, other)] {
        assert!(!ends.readdress(&mut tcp(source, target, TcpControl::None, true), &[OWN]));
    }
    assert!(!ends.readdress(&mut tcp(OWN, OWN, TcpControl::None, true), &[]));
}

#[test]
fn what_is_cut_or_changed_anywhere_ends_nothing() {
    let whole = tcp(OWN, ALIAS, TcpControl::None, true);
    for length in 0..whole.len() {
        ends().readdress(&mut whole[..length].to_vec(), &[OWN]);
    }
    for at in 0..whole.len() {
        for value in [0, 1, 0x4f, 0x7f, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            ends().readdress(&mut bytes, &[OWN]);
        }
    }
}
