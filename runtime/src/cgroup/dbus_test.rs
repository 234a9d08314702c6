//! Messages as bytes, and a peer that answers them.

use std::thread;

use super::*;

const LIMIT: Duration = Duration::from_secs(30);
const TARGET: Target<'static> = Target {
    name: None,
    path: "/a",
    interface: "a.B",
};

#[test]
fn a_call_reads_as_it_was_written() {
    let bytes = call(7, TARGET, "Do", &("text", 5u32)).unwrap();
    assert_eq!(bytes[..4], [b'l', 1, 0, 1]);
    let body = bytes[bytes.len() - 13..].to_vec();
    // Padding is in front of the number.
    assert_eq!(body.len(), 13);
    let message = message(&bytes, bytes[bytes.len() - 16..].to_vec()).unwrap();
    assert_eq!((message.kind, message.member.as_str()), (Kind::Other, "Do"));
    // Two arguments, and not one structure of two.
    let signature = [field::SIGNATURE, 1, b'g', 0, 2, b's', b'u', 0];
    assert!(bytes.windows(8).any(|window| window == signature));
    let arguments: (String, u32) = message.arguments().unwrap();
    assert_eq!(arguments, ("text".to_owned(), 5));
    message.arguments::<(u32, Vec<String>)>().unwrap_err();
    let empty = call(8, TARGET, "Do", &()).unwrap();
    assert_eq!(empty[4..8], [0; 4]);
    assert_eq!(empty.len() % 8, 0);
}

/// What a peer sends, as bytes.
fn from_peer(kind: u8, fields: Vec<(u8, Value<'_>)>, text: &str) -> Vec<u8> {
    let body = zvariant::to_bytes(context(), &(text,)).unwrap();
    let length = u32::try_from(body.len()).unwrap();
    let header: Header<'_> = (b'l', kind, 0, 1, length, 9, fields);
    let mut bytes = zvariant::to_bytes(context(), &header).unwrap().to_vec();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend(body.bytes());
    bytes
}

/// A client whose other end, which is there too, has let it in and then says this.
fn client(says: Vec<u8>) -> (Client, UnixStream) {
    let (near, mut far) = UnixStream::pair().unwrap();
    let peer = thread::spawn(move || {
        far.write_all(b"OK 1234\r\n").unwrap();
        far.write_all(&says).unwrap();
        far
    });
    let client = Client::over(near, 1000, LIMIT).unwrap();
    let mut far = peer.join().unwrap();
    let mut greeting = [0; 32];
    far.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"\0AUTH EXTERNAL 31303030\r\nBEGIN\r\n");
    (client, far)
}

#[test]
fn signals_before_an_answer_are_kept() {
    // systemd's private socket has this name for a sender, which is no unique one.
    let sender = || (field::SENDER, Value::from("org.freedesktop.systemd1"));
    let member = (field::MEMBER, Value::from("JobRemoved"));
    let mut says = from_peer(4, vec![sender(), member], "signal");
    let reply = (field::REPLY_SERIAL, Value::from(1u32));
    says.extend(from_peer(2, vec![reply, sender()], "answer"));
    let (mut client, far) = client(says);
    let answer = client.call(TARGET, "Do", &()).unwrap();
    assert_eq!(answer.arguments::<String>().unwrap(), "answer");
    let signal = client.signal(&TARGET, Instant::now() + LIMIT).unwrap();
    assert_eq!(signal.member, "JobRemoved");
    drop(far);
    let gone = client.call(TARGET, "Do", &());
    assert!(matches!(gone, Err(Error::Io(_))), "{gone:?}");
}

#[test]
fn a_refusal_has_name_and_text() {
    let reply = (field::REPLY_SERIAL, Value::from(1u32));
    let name = (field::ERROR_NAME, Value::from("a.No"));
    let (mut client, _far) = client(from_peer(3, vec![reply, name], "not today"));
    let err = client.call(TARGET, "Do", &()).unwrap_err();
    assert!(matches!(&err, Error::Refused { name, .. } if name == "a.No"));
    assert_eq!(err.to_string(), "not today");
}

#[test]
fn what_is_no_message_is_refused_and_not_waited_for() {
    for bytes in [vec![b'B'; 64], vec![b'l'; 64], vec![0; 64]] {
        let (mut client, _far) = client(bytes);
        client.call(TARGET, "Do", &()).unwrap_err();
    }
}

#[test]
fn addresses_have_kinds_and_escapes() {
    let path = |address: &str| {
        let found = socket_address(address)?.ok()?;
        found.as_pathname().map(|path| path.display().to_string())
    };
    assert_eq!(path("unix:path=/run/a%20b,guid=1"), Some("/run/a b".into()));
    assert_eq!(path("unix:guid=1,path=/x%zz"), Some("/x%zz".into()));
    assert!(socket_address("unix:abstract=/tmp/x").unwrap().is_ok());
    assert!(socket_address("tcp:host=localhost").is_none());
    let err = Client::to_bus("tcp:host=localhost", 0, LIMIT).unwrap_err();
    assert!(matches!(err, Error::Address(_)), "{err:?}");
}
