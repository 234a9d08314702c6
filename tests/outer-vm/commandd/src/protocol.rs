//! What client and command server say to each other over one TCP connection
//! per command: a request, then frames in both directions. Owns the encoding;
//! does no I/O beyond reading and writing one frame.
//!
//! Client to server: `Hello`, answered by the same, then `Request`, then any number of `Stdin`, an empty one being
//! end of file. Server to client: `Stdout` and `Stderr` as they come, one `Exit`,
//! more output only if the request asked to follow it, then end of connection.
//!
//! The greeting is there because QEMU's user network listens with a backlog of
//! one: of connections made at the same moment some are reset. Before the
//! answer nothing was asked for, so trying again is safe.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

/// Port of the command server inside the test host.
pub(crate) const SERVER_PORT: u16 = 7000;

/// Most bytes of one stream that are put into one frame.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;

/// Largest frame accepted. A request carries an argument list, which the kernel
/// limits to less than this.
const MAX_FRAME_BYTES: u32 = 8 << 20;

/// A command to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Program and arguments.
    pub(crate) argv: Vec<String>,
    /// Added to the server's own environment.
    pub(crate) env: Vec<(String, String)>,
    /// Working directory; `/` if absent.
    pub(crate) cwd: Option<String>,
    /// After this time the process group is killed. Counted by the clock of the
    /// test host.
    pub(crate) timeout_ms: u64,
    /// Goes on after the command's end until every process that inherited its
    /// output has closed it.
    pub(crate) follow_output: bool,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// It returned this exit code.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
    /// It was killed after the time allowed.
    TimedOut,
    /// It could not be started, for this reason.
    NotStarted(String),
}

impl Status {
    /// Whether the command ended with exit code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        *self == Self::Exited(0)
    }
}

/// One frame: a kind byte, the length of the payload as u32 little-endian, the payload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// First frame in both directions.
    Hello,
    /// What the connection is for.
    Request(Request),
    /// Bytes for the command's input; none means end of file.
    Stdin(Vec<u8>),
    /// Bytes that the command wrote to its output.
    Stdout(Vec<u8>),
    /// Bytes that the command wrote to its error output.
    Stderr(Vec<u8>),
    /// The command has ended; all it wrote itself came before.
    Exit(Status),
}

const REQUEST: u8 = 0;
const STDIN: u8 = 1;
const STDOUT: u8 = 2;
const STDERR: u8 = 3;
const EXIT: u8 = 4;
const HELLO: u8 = 5;

impl Frame {
    /// Writes the frame in one call, so that it costs one packet where it can.
    pub(crate) fn write_to(&self, mut sink: impl Write) -> io::Result<()> {
        match self {
            Self::Hello => write_frame(&mut sink, HELLO, &[]),
            Self::Request(request) => {
                write_frame(&mut sink, REQUEST, &serde_json::to_vec(request)?)
            }
            Self::Stdin(bytes) => write_frame(&mut sink, STDIN, bytes),
            Self::Stdout(bytes) => write_frame(&mut sink, STDOUT, bytes),
            Self::Stderr(bytes) => write_frame(&mut sink, STDERR, bytes),
            Self::Exit(status) => write_frame(&mut sink, EXIT, &serde_json::to_vec(status)?),
        }
    }

    /// Reads one frame; `None` at a clean end of the connection.
    pub(crate) fn read_from(mut source: impl Read) -> io::Result<Option<Self>> {
        let mut kind = [0; 1];
        if source.read(&mut kind)? == 0 {
            return Ok(None);
        }
        let mut length = [0; 4];
        source.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length);
        if length > MAX_FRAME_BYTES {
            return Err(invalid(format!("frame of {length} bytes")));
        }
        let mut payload = vec![0; length as usize];
        source.read_exact(&mut payload)?;
        Ok(Some(match kind[0] {
            REQUEST => Self::Request(serde_json::from_slice(&payload)?),
            STDIN => Self::Stdin(payload),
            STDOUT => Self::Stdout(payload),
            STDERR => Self::Stderr(payload),
            EXIT => Self::Exit(serde_json::from_slice(&payload)?),
            HELLO => Self::Hello,
            unknown => return Err(invalid(format!("frame of kind {unknown}"))),
        }))
    }
}

fn write_frame(sink: &mut impl Write, kind: u8, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(|_| invalid("frame too long".to_owned()))?;
    let mut bytes = Vec::with_capacity(payload.len() + 5);
    bytes.push(kind);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(payload);
    sink.write_all(&bytes)
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_way_through_a_stream() {
        let frames = [
            Frame::Hello,
            Frame::Request(Request {
                argv: vec!["true".into()],
                timeout_ms: 7,
                ..Request::default()
            }),
            Frame::Stdin(vec![]),
            Frame::Stdout(vec![0, 255, 10]),
            Frame::Exit(Status::NotStarted("no such file".into())),
        ];
        let mut stream = Vec::new();
        for frame in &frames {
            frame.write_to(&mut stream).unwrap();
        }
        let mut stream = stream.as_slice();
        for frame in frames {
            assert_eq!(Frame::read_from(&mut stream).unwrap(), Some(frame));
        }
        assert_eq!(Frame::read_from(&mut stream).unwrap(), None);
    }

    #[test]
    fn a_frame_beyond_the_limit_is_refused_before_it_is_read() {
        let header = [STDOUT, 0xff, 0xff, 0xff, 0xff];
        let error = Frame::read_from(header.as_slice()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
