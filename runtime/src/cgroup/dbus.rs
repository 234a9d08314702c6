//! A small client of D-Bus: calls with an answer, and signals, one after the other.
//!
//! Owns the connection, to a bus or to a peer's own socket, and the framing of
//! messages (D-Bus specification, "Message Protocol"). Bodies are zvariant's. Knows
//! no service. A bus library would bring threads and an executor along, and those at
//! hand refuse what systemd names itself on its private socket.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use zvariant::serialized::{Context, Data};
use zvariant::{DynamicType, LE, ObjectPath, Signature, Type, Value};

/// Nothing that is asked for here is longer.
const MAX_MESSAGE_LEN: usize = 1 << 20;
const FIXED_LEN: usize = 16;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The other end refuses; the text is its own.
    #[error("{text}")]
    Refused {
        /// Name of its error.
        name: String,
        /// What it says.
        text: String,
    },
    /// Something that is no message, or not the one that was expected.
    #[error("a message of D-Bus can't be read")]
    Form(#[from] zvariant::Error),
    /// The address of a bus is of no kind that is known.
    #[error("{0:?} is not an address of a bus such as unix:path=/run/dbus/system_bus_socket")]
    Address(String),
    /// The other end does not know this user.
    #[error("user {uid} is not let in")]
    Stranger {
        /// The user.
        uid: u32,
    },
}

/// Where a call goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    /// A name on the bus; none for a peer.
    pub(super) name: Option<&'a str>,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
}

/// The bus itself, as a service.
const BUS: Target<'static> = Target {
    name: Some("org.freedesktop.DBus"),
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
};

/// A message that has come.
#[derive(Debug)]
pub(super) struct Message {
    kind: Kind,
    reply_to: u32,
    sender: String,
    pub(super) member: String,
    error: String,
    body: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Answer,
    Failure,
    Signal,
    Other,
}

impl Message {
    /// Its arguments, which are as expected or an error.
    pub(super) fn arguments<T: DeserializeOwned + Type>(&self) -> Result<T, Error> {
        let data = Data::new(&self.body[..], context());
        Ok(data.deserialize().map(|(arguments, _)| arguments)?)
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
    serial: u32,
    /// Signals that came before the answer.
    signals: VecDeque<Message>,
    /// An answer comes in this time.
    limit: Duration,
}

fn context() -> Context {
    Context::new_dbus(LE, 0)
}

impl Client {
    /// To a peer that listens at `path`, as the user `uid`.
    pub(super) fn to_peer(path: &Path, uid: u32, limit: Duration) -> Result<Self, Error> {
        Self::over(UnixStream::connect(path)?, uid, limit)
    }

    /// To a bus, by one of the addresses in `list`.
    pub(super) fn to_bus(list: &str, uid: u32, limit: Duration) -> Result<Self, Error> {
        let mut result = Err(Error::Address(list.to_owned()));
        for address in list.split(';').filter_map(socket_address) {
            let stream = address.and_then(|address| UnixStream::connect_addr(&address));
            match stream {
                Ok(stream) => {
                    let mut client = Self::over(stream, uid, limit)?;
                    client.call(BUS, "Hello", &())?;
                    return Ok(client);
                }
                Err(err) => result = Err(err.into()),
            }
        }
        result
    }

    fn over(stream: UnixStream, uid: u32, limit: Duration) -> Result<Self, Error> {
        stream.set_write_timeout(Some(limit))?;
        let mut client = Self {
            stream,
            serial: 0,
            signals: VecDeque::new(),
            limit,
        };
        // The kernel tells the other end who this is: it compares.
        let hex: String = uid
            .to_string()
            .bytes()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        // In one piece, as systemd's own clients do: its server overlooks a call that
        // it reads together with BEGIN, until something else comes.
        let greeting = format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n");
        client.stream.write_all(greeting.as_bytes())?;
        if !client.line()?.starts_with(b"OK ") {
            return Err(Error::Stranger { uid });
        }
        Ok(client)
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        const MAX_LINE_LEN: usize = 4096;
        let deadline = Instant::now() + self.limit;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            if line.len() > MAX_LINE_LEN {
                return Err(ErrorKind::InvalidData.into());
            }
            line.extend(self.read(1, deadline)?);
        }
        Ok(line)
    }

    /// Who has a name on the bus.
    pub(super) fn owner_of(&mut self, name: &str) -> Result<String, Error> {
        self.call(BUS, "GetNameOwner", &(name,))?.arguments()
    }

    /// Has the bus pass signals on.
    pub(super) fn subscribe(&mut self, from: &Target<'_>, member: &str) -> Result<(), Error> {
        let Target {
            name,
            path,
            interface,
        } = from;
        let sender = name
            .map(|name| format!(",sender='{name}'"))
            .unwrap_or_default();
        let rule = format!(
            "type='signal',path='{path}',interface='{interface}',member='{member}'{sender}"
        );
        self.call(BUS, "AddMatch", &(rule,)).map(drop)
    }

    /// Calls a method and waits for its answer.
    pub(super) fn call<B>(
        &mut self,
        target: Target<'_>,
        member: &str,
        body: &B,
    ) -> Result<Message, Error>
    where
        B: Serialize + DynamicType,
    {
        self.serial += 1;
        let message = call(self.serial, target, member, body)?;
        self.stream.write_all(&message)?;
        let deadline = Instant::now() + self.limit;
        loop {
            let message = self.receive(deadline)?;
            match message.kind {
                Kind::Signal => self.signals.push_back(message),
                Kind::Answer if message.reply_to == self.serial => return Ok(message),
                Kind::Failure if message.reply_to == self.serial => {
                    let name = message.error.clone();
                    let text = message.arguments().unwrap_or_else(|_| name.clone());
                    return Err(Error::Refused { name, text });
                }
                _ => {}
            }
        }
    }

    /// The next signal of this sender, which has the time limit of an answer.
    pub(super) fn signal(
        &mut self,
        from: &Target<'_>,
        deadline: Instant,
    ) -> Result<Message, Error> {
        loop {
            let message = match self.signals.pop_front() {
                Some(message) => message,
                None => self.receive(deadline)?,
            };
            let is_from = from.name.is_none_or(|name| name == message.sender);
            if message.kind == Kind::Signal && is_from {
                return Ok(message);
            }
        }
    }

    fn receive(&mut self, deadline: Instant) -> Result<Message, Error> {
        let mut bytes = self.read(FIXED_LEN, deadline)?;
        let number = |at: usize| -> Option<usize> {
            let four = bytes.get(at..at + 4)?.try_into().ok()?;
            usize::try_from(u32::from_le_bytes(four)).ok()
        };
        let lengths = number(4).zip(number(12)).filter(|(body, fields)| {
            bytes.first() == Some(&b'l') && body.max(fields) <= &MAX_MESSAGE_LEN
        });
        let (body_len, fields_len) =
            lengths.ok_or_else(|| io::Error::from(ErrorKind::InvalidData))?;
        // The body begins at a multiple of 8.
        let header_len = (FIXED_LEN + fields_len).next_multiple_of(8);
        bytes.extend(self.read(header_len - FIXED_LEN, deadline)?);
        let body = self.read(body_len, deadline)?;
        message(&bytes, body)
    }

    fn read(&mut self, len: usize, deadline: Instant) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(rest) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(more) => done += more,
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) if err.kind() == ErrorKind::WouldBlock => {
                    return Err(ErrorKind::TimedOut.into());
                }
                Err(err) => return Err(err),
            }
        }
        Ok(bytes)
    }
}

/// Byte order, kind, flags, version, length of the body, serial, fields.
type Header<'a> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Value<'a>)>);

/// Numbers of the header's fields.
mod field {
    pub(super) const PATH: u8 = 1;
    pub(super) const INTERFACE: u8 = 2;
    pub(super) const MEMBER: u8 = 3;
    pub(super) const ERROR_NAME: u8 = 4;
    pub(super) const REPLY_SERIAL: u8 = 5;
    pub(super) const DESTINATION: u8 = 6;
    pub(super) const SENDER: u8 = 7;
    pub(super) const SIGNATURE: u8 = 8;
}

fn call<B>(serial: u32, target: Target<'_>, member: &str, body: &B) -> Result<Vec<u8>, Error>
where
    B: Serialize + DynamicType,
{
    const METHOD_CALL: u8 = 1;
    let arguments = zvariant::to_bytes(context(), body)?;
    let mut fields = vec![
        (field::PATH, Value::from(ObjectPath::try_from(target.path)?)),
        (field::INTERFACE, Value::from(target.interface)),
        (field::MEMBER, Value::from(member)),
    ];
    if let Some(name) = target.name {
        fields.push((field::DESTINATION, Value::from(name)));
    }
    let signature = body.signature();
    let body = match signature {
        Signature::Unit => &[],
        _ => arguments.bytes(),
    };
    let length = u32::try_from(body.len()).map_err(|_| zvariant::Error::OutOfBounds)?;
    let header: Header<'_> = (b'l', METHOD_CALL, 0, 1, length, serial, fields);
    let mut message = zvariant::to_bytes(context(), &header)?.to_vec();
    if signature != Signature::Unit {
        add_signature(&mut message, &signature.to_string_no_parens())?;
    }
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend(body);
    Ok(message)
}

/// One more field, the last. As a value it would be that of one structure, and not
/// of arguments that follow each other.
fn add_signature(header: &mut Vec<u8>, signature: &str) -> Result<(), Error> {
    const FIELDS_LEN: std::ops::Range<usize> = 12..16;
    let too_long = |_| zvariant::Error::OutOfBounds;
    let len = u8::try_from(signature.len()).map_err(too_long)?;
    header.resize(header.len().next_multiple_of(8), 0);
    header.extend([field::SIGNATURE, 1, b'g', 0, len]);
    header.extend(signature.as_bytes());
    header.push(0);
    let fields_len = u32::try_from(header.len() - FIXED_LEN).map_err(too_long)?;
    header.splice(FIELDS_LEN, fields_len.to_le_bytes());
    Ok(())
}

fn message(header: &[u8], body: Vec<u8>) -> Result<Message, Error> {
    let data = Data::new(header, context());
    let ((_, kind, _, _, _, _, fields), _) = data.deserialize::<Header<'_>>()?;
    let find = |wanted: u8| fields.iter().find(|(number, _)| *number == wanted);
    let text = |wanted: u8| match find(wanted) {
        Some((_, Value::Str(text))) => text.to_string(),
        _ => String::new(),
    };
    let reply_to = match find(field::REPLY_SERIAL) {
        Some((_, Value::U32(serial))) => *serial,
        _ => 0,
    };
    Ok(Message {
        kind: match kind {
            2 => Kind::Answer,
            3 => Kind::Failure,
            4 => Kind::Signal,
            _ => Kind::Other,
        },
        reply_to,
        sender: text(field::SENDER),
        member: text(field::MEMBER),
        error: text(field::ERROR_NAME),
        body,
    })
}

/// A part of a list of addresses; none of another kind.
fn socket_address(address: &str) -> Option<io::Result<SocketAddr>> {
    let pairs = address.trim().strip_prefix("unix:")?.split(',');
    pairs
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(key, value)| {
            let value = unescaped(value);
            match key {
                "path" => Some(SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(
                    &value,
                ))),
                "abstract" => Some(SocketAddr::from_abstract_name(value)),
                _ => None,
            }
        })
}

/// `%2f` and the like; what is none of that stays.
fn unescaped(text: &str) -> Vec<u8> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let code = part
            .get(..2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (code, part.get(2..)) {
            (Some(code), Some(rest)) => {
                bytes.push(code);
                bytes.extend(rest.as_bytes());
            }
            _ => {
                bytes.push(b'%');
                bytes.extend(part.as_bytes());
            }
        }
    }
    bytes
}

#[cfg(test)]
#[path = "dbus_test.rs"]
mod tests;
