//! A muxer between a guest made of packets and an owner made of sockets.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixDatagram, UnixStream};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use proptest::prelude::*;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::super::connection::KILL_TIMEOUT;
use super::super::credit::BUFFER_LEN;
use super::super::packet::{SHUTDOWN_RECEIVE, SHUTDOWN_SEND};
use super::*;

const GUEST: u64 = 3;
const PORTS: Ports = Ports {
    guest: 5000,
    host: 1024,
};
const GUEST_BUFFER_LEN: u32 = 256 * 1024;
const BOTH: u32 = SHUTDOWN_RECEIVE | SHUTDOWN_SEND;

struct World {
    muxer: Muxer,
    owner: UnixDatagram,
}

impl World {
    fn new() -> Self {
        let (device, owner) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        let muxer = Muxer::new(GUEST, device).unwrap();
        let owner = UnixDatagram::from(owner);
        owner.set_nonblocking(true).unwrap();
        Self { muxer, owner }
    }

    fn send(&mut self, ports: Ports, operation: Operation) {
        self.packet(&header(ports, operation), &[]);
    }

    fn shut(&mut self, flags: u32) {
        let header = header(PORTS, Operation::Shutdown);
        self.packet(&Header { flags, ..header }, &[]);
    }

    fn data(&mut self, payload: &[u8]) {
        let len = u32::try_from(payload.len()).unwrap();
        let header = header(PORTS, Operation::Data);
        self.packet(&Header { len, ..header }, payload);
    }

    fn packet(&mut self, header: &Header, payload: &[u8]) {
        let mut payload = payload.to_vec();
        let (front, back) = payload.split_at_mut(header.len as usize / 3);
        self.muxer.receive(header, &[front.into(), back.into()]);
    }

    fn take_with(&mut self, room: usize) -> Option<(Header, Vec<u8>)> {
        let mut room = vec![0; room];
        let header = self.muxer.next(&[room.as_mut_slice().into()])?;
        room.truncate(header.len as usize);
        Some((header, room))
    }

    fn take(&mut self) -> Option<(Operation, u32, Vec<u8>)> {
        self.muxer.host_ready().unwrap();
        let (header, payload) = self.take_with(4096)?;
        assert_eq!((header.src_cid, header.dst_cid), (HOST_CID, GUEST));
        Some((
            Operation::from_number(header.op).unwrap(),
            header.flags,
            payload,
        ))
    }

    fn accept(&self) -> Option<(u32, UnixStream)> {
        let mut port = [0; 4];
        let (_, file) = self.owner.recv_with_fd(&mut port).ok()?;
        let stream = UnixStream::from(OwnedFd::from(file?));
        stream.set_nonblocking(true).unwrap();
        Some((u32::from_le_bytes(port), stream))
    }

    fn connect(&mut self) -> UnixStream {
        self.send(PORTS, Operation::Request);
        let (port, stream) = self.accept().unwrap();
        assert_eq!(port, PORTS.host);
        assert_eq!(self.take(), Some((Operation::Response, 0, Vec::new())));
        stream
    }
}

fn header(ports: Ports, operation: Operation) -> Header {
    Header {
        src_cid: GUEST,
        dst_cid: HOST_CID,
        src_port: ports.guest,
        dst_port: ports.host,
        kind: STREAM,
        op: operation.number(),
        buf_alloc: GUEST_BUFFER_LEN,
        ..Header::default()
    }
}

fn read_all(stream: &mut UnixStream) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let is_ended = stream.read_to_end(&mut bytes).is_ok();
    (bytes, is_ended)
}

fn reset() -> Option<(Operation, u32, Vec<u8>)> {
    Some((Operation::Reset, 0, Vec::new()))
}

#[test]
fn bytes_go_both_ways() {
    let mut world = World::new();
    let mut stream = world.connect();
    world.data(b"hello");
    assert_eq!(read_all(&mut stream), (b"hello".to_vec(), false));
    stream.write_all(b"answer").unwrap();
    let answer = (Operation::Data, 0, b"answer".to_vec());
    assert_eq!(world.take(), Some(answer));
    assert_eq!(world.take(), None);
}

#[test]
fn guest_half_close_is_an_end_of_file_and_leaves_the_way_back() {
    let mut world = World::new();
    let mut stream = world.connect();
    world.data(b"all");
    world.shut(SHUTDOWN_SEND);
    assert_eq!(read_all(&mut stream), (b"all".to_vec(), true));
    stream.write_all(b"got it").unwrap();
    drop(stream);
    assert_eq!(world.take(), Some((Operation::Data, 0, b"got it".to_vec())));
    assert_eq!(world.take(), Some((Operation::Shutdown, BOTH, Vec::new())));
    world.shut(BOTH);
    assert_eq!(world.take(), reset());
    assert!(world.muxer.links.is_empty());
}

#[test]
fn owner_half_close_comes_after_its_bytes_and_leaves_the_way_back() {
    let mut world = World::new();
    let mut stream = world.connect();
    stream.write_all(&[7; 5000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let lens: Vec<usize> = (0..2).map(|_| world.take().unwrap().2.len()).collect();
    assert_eq!(lens, [4096, 904]);
    let end = (Operation::Shutdown, SHUTDOWN_SEND, Vec::new());
    assert_eq!(world.take(), Some(end));
    world.data(b"still here");
    assert_eq!(read_all(&mut stream), (b"still here".to_vec(), false));
}

#[test]
fn port_that_the_owner_closes_unused_is_reset() {
    let mut world = World::new();
    drop(world.connect());
    assert_eq!(world.take(), reset());
    assert_eq!(world.take(), None);
}

#[test]
fn guest_that_never_confirms_a_close_is_reset_in_the_end() {
    let mut world = World::new();
    let mut stream = world.connect();
    stream.write_all(b"bye").unwrap();
    drop(stream);
    world.take().unwrap();
    assert_eq!(world.take(), Some((Operation::Shutdown, BOTH, Vec::new())));
    world.muxer.expire(Instant::now()).unwrap();
    assert_eq!(world.take(), None);
    let late = Instant::now() + KILL_TIMEOUT;
    world.muxer.expire(late).unwrap();
    assert_eq!(world.take(), reset());
}

#[test]
fn timer_of_a_close_makes_the_descriptor_ready() {
    let mut world = World::new();
    let mut stream = world.connect();
    stream.write_all(b"bye").unwrap();
    drop(stream);
    while world.take().is_some() {}
    let ready = nix::poll::PollFd::new(world.muxer.as_fd(), nix::poll::PollFlags::POLLIN);
    let limit = u16::try_from(4 * KILL_TIMEOUT.as_millis()).unwrap();
    nix::poll::poll(&mut [ready], limit).unwrap();
    assert_eq!(world.take(), reset());
}

#[test]
fn bytes_of_a_guest_that_is_gone_still_reach_a_slow_owner() {
    let mut world = World::new();
    let mut stream = world.connect();
    let mut sent = 0;
    // Until the socket is full and some is kept.
    while !world.muxer.links[&PORTS]
        .interest()
        .contains(EpollFlags::EPOLLOUT)
    {
        world.data(&[1; 50_000]);
        sent += 50_000;
    }
    world.send(PORTS, Operation::Reset);
    let mut received = 0;
    loop {
        let (bytes, is_ended) = read_all(&mut stream);
        received += bytes.len();
        if is_ended {
            break;
        }
        world.muxer.host_ready().unwrap();
    }
    assert_eq!(received, sent);
    assert_eq!(world.take(), None);
    assert!(world.muxer.links.is_empty());
}

#[test]
fn guest_that_ignores_its_credit_is_reset() {
    let mut world = World::new();
    let _stream = world.connect();
    for _ in 0..100 {
        world.data(&[1; 50_000]);
    }
    assert_eq!(world.take(), reset());
}

#[test]
fn stalled_guest_is_told_when_the_owner_reads_again() {
    let mut world = World::new();
    let mut stream = world.connect();
    let (mut sent, mut forwarded) = (0, 0);
    while sent - forwarded < BUFFER_LEN {
        let len = (BUFFER_LEN - (sent - forwarded)).min(60_000);
        world.data(&vec![2; len as usize]);
        sent += len;
        if let Some((header, _)) = world.take_with(0) {
            assert_eq!(header.op, Operation::CreditUpdate.number());
            forwarded = header.fwd_cnt;
        }
    }
    assert_eq!(world.take(), None);
    let mut received = 0;
    loop {
        let (bytes, _) = read_all(&mut stream);
        if bytes.is_empty() {
            break;
        }
        received += bytes.len();
        world.muxer.host_ready().unwrap();
    }
    assert_eq!(received, sent as usize);
    let update = (Operation::CreditUpdate, 0, Vec::new());
    assert_eq!(world.take(), Some(update));
}

#[test]
fn guest_without_room_is_asked_once() {
    let mut world = World::new();
    let mut stream = world.connect();
    let full = header(PORTS, Operation::CreditUpdate);
    world.packet(
        &Header {
            buf_alloc: 3,
            ..full
        },
        &[],
    );
    stream.write_all(b"hello").unwrap();
    assert_eq!(world.take().unwrap().2, b"hel");
    let ask = (Operation::CreditRequest, 0, Vec::new());
    assert_eq!(world.take(), Some(ask));
    assert_eq!(world.take(), None);
    let update = Header {
        buf_alloc: 3,
        fwd_cnt: 3,
        ..full
    };
    world.packet(&update, &[]);
    assert_eq!(world.take().unwrap().2, b"lo");
}

#[test]
fn connections_take_turns() {
    let mut world = World::new();
    let mut streams = Vec::new();
    for guest in 1..=3 {
        world.send(Ports { guest, host: 9 }, Operation::Request);
        world.take().unwrap();
        streams.push(world.accept().unwrap().1);
    }
    for stream in &mut streams {
        stream.write_all(&[0; 10_000]).unwrap();
    }
    world.muxer.host_ready().unwrap();
    let order: Vec<u32> = (0..6)
        .map(|_| world.take_with(1000).unwrap().0.dst_port)
        .collect();
    assert_eq!(order[..3], order[3..]);
    assert!(order[..3].contains(&1) && order[..3].contains(&2) && order[..3].contains(&3));
}

#[test]
fn what_is_no_connection_is_reset() {
    let mut world = World::new();
    for operation in [Operation::Data, Operation::Shutdown, Operation::Response] {
        world.send(PORTS, operation);
        assert_eq!(world.take(), reset());
    }
    world.send(PORTS, Operation::Reset);
    assert_eq!(world.take(), None);

    let request = header(PORTS, Operation::Request);
    world.packet(&Header { kind: 2, ..request }, &[]);
    let (header, _) = world.take_with(0).unwrap();
    assert_eq!((header.op, header.kind), (Operation::Reset.number(), 2));

    world.packet(
        &Header {
            dst_cid: 1,
            ..request
        },
        &[],
    );
    let (header, _) = world.take_with(0).unwrap();
    assert_eq!((header.op, header.src_cid), (Operation::Reset.number(), 1));

    world.packet(
        &Header {
            src_cid: 4,
            ..request
        },
        &[],
    );
    assert!(world.take_with(0).is_none(), "somebody else's packet");
    assert!(world.accept().is_none());
}

#[test]
fn second_request_for_the_same_ports_ends_the_first() {
    let mut world = World::new();
    let mut stream = world.connect();
    world.send(PORTS, Operation::Request);
    assert_eq!(world.take(), reset());
    assert!(read_all(&mut stream).1);
}

#[test]
fn requests_that_the_owner_has_no_time_for_are_refused() {
    let mut world = World::new();
    let mut refused = 0;
    for guest in 0..600 {
        world.send(Ports { guest, host: 1 }, Operation::Request);
        if world.take() == reset() {
            refused += 1;
        }
    }
    assert!(refused > 0);
    assert_eq!(world.muxer.links.len(), 600 - refused);
    while world.accept().is_some() {}
    world.send(PORTS, Operation::Request);
    assert!(world.accept().is_some());
}

#[test]
fn owner_that_closes_the_channel_is_noticed() {
    let mut world = World::new();
    drop(world.owner);
    let error = world.muxer.host_ready().unwrap_err();
    assert!(matches!(error, Error::OwnerGone));
}

/// Anything a guest or an owner can do.
#[derive(Debug, Clone)]
enum Step {
    Guest { header: Header, payload_len: usize },
    Take { room: usize },
    Accept,
    Write(usize),
    Read,
    Shut(bool),
    Close,
    Events,
    Expire,
}

fn hostile_header() -> impl Strategy<Value = Header> {
    let numbers = (
        0..3u32,
        0..2u32,
        0..9u16,
        0..4u32,
        any::<u32>(),
        any::<u32>(),
    );
    (numbers, prop_oneof![9 => Just(STREAM), 1 => any::<u16>()]).prop_map(
        |((guest, host, op, flags, buf_alloc, fwd_cnt), kind)| Header {
            src_cid: GUEST,
            dst_cid: HOST_CID,
            src_port: guest,
            dst_port: host,
            kind,
            op,
            flags,
            buf_alloc,
            fwd_cnt: fwd_cnt % 100_000,
            ..Header::default()
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (hostile_header(), 0..70_000usize)
            .prop_map(|(header, payload_len)| Step::Guest { header, payload_len }),
        6 => (0..5000usize).prop_map(|room| Step::Take { room }),
        3 => Just(Step::Accept),
        2 => (1..300_000usize).prop_map(Step::Write),
        2 => Just(Step::Read),
        1 => any::<bool>().prop_map(Step::Shut),
        1 => Just(Step::Close),
        4 => Just(Step::Events),
        1 => Just(Step::Expire),
    ]
}

/// Applies one step; streams that the owner holds are used from the back.
fn apply(world: &mut World, streams: &mut Vec<UnixStream>, step: &Step) {
    match *step {
        Step::Guest {
            header,
            payload_len,
        } => {
            let is_data = header.op == Operation::Data.number();
            let len = if is_data { payload_len } else { 0 };
            let len_field = u32::try_from(len).unwrap();
            world.packet(
                &Header {
                    len: len_field,
                    ..header
                },
                &vec![5; len],
            );
        }
        Step::Take { room } => {
            if let Some((header, _)) = world.take_with(room) {
                assert!(header.len as usize <= room);
            }
        }
        Step::Accept => streams.extend(world.accept().map(|(_, stream)| stream)),
        Step::Events => world.muxer.host_ready().unwrap(),
        Step::Expire => world.muxer.expire(Instant::now() + KILL_TIMEOUT).unwrap(),
        Step::Close => drop(streams.pop()),
        Step::Write(_) | Step::Read | Step::Shut(_) => {
            let Some(mut stream) = streams.pop() else {
                return;
            };
            match *step {
                // A full or closed stream refuses; so be it.
                Step::Write(len) => drop(stream.write(&vec![6; len])),
                Step::Read => drop(read_all(&mut stream)),
                Step::Shut(is_write) => {
                    let direction = if is_write {
                        Shutdown::Write
                    } else {
                        Shutdown::Read
                    };
                    drop(stream.shutdown(direction));
                }
                _ => {}
            }
            streams.insert(0, stream);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_guest_and_owner_do_breaks_the_muxer(
        steps in proptest::collection::vec(step(), 1..150),
    ) {
        let mut world = World::new();
        let mut streams = Vec::new();
        for step in steps {
            apply(&mut world, &mut streams, &step);
            let muxer = &world.muxer;
            prop_assert!(muxer.resets.len() <= MAX_RESETS);
            prop_assert!(muxer.ready.len() <= muxer.links.len());
            for link in muxer.links.values() {
                prop_assert!(link.waiting_len() <= BUFFER_LEN as usize);
            }
        }
    }
}
