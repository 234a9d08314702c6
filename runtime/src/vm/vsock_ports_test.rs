//! Tests of [`super`]: who gets a connection, and what a hostile guest gets.

use std::io::{IoSlice, Read, Write};

use nix::sys::socket::{AddressFamily, ControlMessage, SockFlag, SockType, sendmsg, socketpair};

use super::*;

/// No answer of these tests takes so long.
const LIMIT: Duration = Duration::from_secs(60);

/// One machine: its device's end of the channel, and the owner's streams.
struct Scene {
    device: OwnedFd,
    streams: VsockPorts,
    control: Receiver<UnixStream>,
}

impl Scene {
    /// The agent has connected.
    fn new() -> Self {
        let kind = SockType::SeqPacket;
        let flags = SockFlag::SOCK_CLOEXEC;
        let (device, owner) = socketpair(AddressFamily::Unix, kind, None, flags).unwrap();
        let streams = VsockPorts::new(Token::random().unwrap());
        let (arrived, control) = mpsc::channel();
        let first = arrived.clone();
        streams
            .serve(owner, move |stream| first.send(stream).unwrap())
            .unwrap();
        streams.offer(CONTROL_PORT, move |stream| arrived.send(stream).unwrap());
        let scene = Self {
            device,
            streams,
            control,
        };
        drop(scene.connect(CONTROL_PORT));
        scene.control.recv_timeout(LIMIT).unwrap();
        scene
    }

    /// Any process of the guest connects to `port`.
    fn connect(&self, port: u32) -> UnixStream {
        let (guest, owner) = UnixStream::pair().unwrap();
        let rights = [owner.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&rights)];
        let bytes = port.to_le_bytes();
        let parts = [IoSlice::new(&bytes)];
        let device = self.device.as_raw_fd();
        sendmsg::<()>(device, &parts, &rights, MsgFlags::empty(), None).unwrap();
        guest
    }

    /// The agent connects to `port`.
    fn connect_agent(&self, port: u32) -> UnixStream {
        let mut stream = self.connect(port);
        stream.write_all(self.streams.token.as_bytes()).unwrap();
        stream
    }
}

fn is_closed(mut stream: UnixStream) -> bool {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    matches!(stream.read(&mut [0]), Ok(0) | Err(_))
}

#[test]
fn an_expected_port_is_passed_on_and_any_other_is_closed() {
    let scene = Scene::new();
    let expected = scene.streams.expect().unwrap();
    assert!(is_closed(scene.connect(7)));
    let mut guest = scene.connect_agent(expected.port);
    let mut owner = expected.take(LIMIT).unwrap();
    // The token is not part of the stream.
    guest.write_all(b"x").unwrap();
    let mut byte = [0];
    owner.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
}

#[test]
fn a_connection_without_the_token_is_closed_and_takes_no_stream() {
    let scene = Scene::new();
    let expected = scene.streams.expect().unwrap();
    let silent = scene.connect(expected.port);
    let mut wrong = scene.connect(expected.port);
    wrong.write_all(&[0; TOKEN_LEN]).unwrap();
    assert!(is_closed(wrong));
    let mut nearly = scene.connect(expected.port);
    let mut token = scene.streams.token.0;
    token[TOKEN_LEN - 1] ^= 1;
    nearly.write_all(&token).unwrap();
    assert!(is_closed(nearly));
    let mut short = scene.connect(expected.port);
    short.write_all(&scene.streams.token.0[..4]).unwrap();
    short.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(is_closed(short));
    let _agent = scene.connect_agent(expected.port);
    assert!(expected.take(LIMIT).is_some());
    drop(silent);
}

#[test]
fn connections_that_send_nothing_are_bounded_and_hold_up_no_agent() {
    let scene = Scene::new();
    let expected = scene.streams.expect().unwrap();
    let mut silent: Vec<_> = (0..4 * MAX_UNPROVEN_PER_PORT)
        .map(|_| scene.connect(CONTROL_PORT))
        .collect();
    let _agent = scene.connect_agent(expected.port);
    assert!(expected.take(LIMIT).is_some());
    let open = silent.split_off(3 * MAX_UNPROVEN_PER_PORT);
    assert!(silent.into_iter().all(is_closed));
    assert_eq!(open.len(), MAX_UNPROVEN_PER_PORT);
    assert!(scene.control.try_recv().is_err());
}

#[test]
fn only_the_agent_connects_to_the_control_port_again() {
    let scene = Scene::new();
    let mut stranger = scene.connect(CONTROL_PORT);
    stranger.write_all(&[7; TOKEN_LEN]).unwrap();
    assert!(is_closed(stranger));
    let _agent = scene.connect_agent(CONTROL_PORT);
    assert!(scene.control.recv_timeout(LIMIT).is_ok());
}

#[test]
fn ports_are_not_counted() {
    let streams = VsockPorts::new(Token::random().unwrap());
    let ports: Vec<_> = (0..64).map(|_| streams.expect().unwrap()).collect();
    let mut numbers: Vec<_> = ports.iter().map(|one| one.port).collect();
    numbers.sort_unstable();
    let neighbours = numbers.windows(2).filter(|two| two[0] + 1 == two[1]);
    assert_eq!(neighbours.count(), 0);
    assert!(numbers[0] >= FIRST_STREAM_PORT);
}

#[test]
fn a_dead_machine_wakes_whoever_waits() {
    let Scene {
        device, streams, ..
    } = Scene::new();
    let expected = streams.expect().unwrap();
    drop(device);
    assert!(expected.take(LIMIT).is_none());
}
