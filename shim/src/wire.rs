//! One call at a time to containerd's ttrpc service, with a limit on each wait.
//!
//! Owns the frames of that one connection. The ttrpc crate's client polls a
//! hundred times a second for as long as it is connected, which would cost an idle
//! server CPU time.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use protobuf::Message;
use ttrpc::{Code, Request, Response};

const REQUEST: u8 = 1;
const HEAD_LEN: usize = 10;
/// ttrpc's own limit for a message, in bytes.
const MAX_LEN: usize = 4 << 20;
/// containerd responds at once, or not at all.
const LIMIT: Duration = Duration::from_secs(10);

/// A connection to a ttrpc server.
#[derive(Debug)]
pub(crate) struct Client {
    stream: UnixStream,
    last_id: u32,
}

impl Client {
    /// Connects to a socket, whose name may begin with `unix://`.
    pub(crate) fn connect(address: &str) -> io::Result<Self> {
        let path = address.strip_prefix("unix://").unwrap_or(address);
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(Self { stream, last_id: 1 })
    }

    /// Makes a call whose response is empty. After an error the connection is of no use.
    pub(crate) fn call(&mut self, service: &str, method: &str, payload: Vec<u8>) -> io::Result<()> {
        let request = Request {
            service: service.to_owned(),
            method: method.to_owned(),
            payload,
            ..Default::default()
        };
        let body = request.write_to_bytes().map_err(io::Error::other)?;
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        // Clients have the odd numbers.
        self.last_id = self.last_id.wrapping_add(2);
        let mut frame = Vec::with_capacity(HEAD_LEN + body.len());
        frame.extend(length.to_be_bytes());
        frame.extend(self.last_id.to_be_bytes());
        frame.extend([REQUEST, 0]);
        frame.extend(body);
        self.stream.write_all(&frame)?;
        self.receive()
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        // Number, type and flags: with one call at a time they are known.
        self.stream.read_exact(&mut [0; HEAD_LEN - 4])?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_LEN {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        let response = Response::parse_from_bytes(&body).map_err(io::Error::other)?;
        match response.status.as_ref() {
            Some(status) if status.code() != Code::OK => {
                Err(io::Error::other(status.message().to_owned()))
            }
            _ => Ok(()),
        }
    }
}
