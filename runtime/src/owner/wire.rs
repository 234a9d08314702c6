//! Carries messages between a command and a container's owner: a length, JSON,
//! and descriptors beside the length.
//!
//! Owns framing and descriptor passing. Both ends are trusted: the socket lies in a
//! directory that only its user can enter, and each end looks whose the other is.
//! Lengths are limited all the same.

use std::ffi::OsStr;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, getsockopt, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::host::private;
use crate::host::private::Directory;

/// Longest message in bytes: a process with the most arguments Linux allows fits.
const MAX_MESSAGE_LEN: u32 = 8 << 20;
/// Descriptors beside one message at most: as many as Linux passes (SCM_MAX_FD).
pub(crate) const MAX_DESCRIPTORS: usize = 253;

/// Why a message did not get through.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other end is gone.
    #[error("the container's owner is gone")]
    Closed,
    /// It takes longer than it was given.
    #[error("the container's owner does not answer: `delete --force` ends it")]
    Silent,
    /// The socket failed.
    #[error("talk to the container's owner")]
    Io(#[from] io::Error),
    /// The socket, or its directory, is not this user's alone.
    #[error(transparent)]
    Private(#[from] private::Error),
    /// What arrived is not a message.
    #[error("message of the container's owner")]
    Decode(#[source] serde_json::Error),
    /// A message that would never end.
    #[error("message of {0} bytes is too long")]
    TooLong(u64),
}

/// One end of a connection between a command and an owner.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
}

/// Connects to the owner that listens at `socket`.
///
/// # Errors
/// [`Error::Closed`] when no one listens; when it is not this user's or root's.
pub fn connect(socket: &Path) -> Result<Connection, Error> {
    let (directory, name) = parts(socket)?;
    let connected = Directory::open(directory).and_then(|directory| directory.connect(name));
    let stream = connected.map_err(|err| {
        if is_gone(&err) {
            Error::Closed
        } else {
            err.into()
        }
    })?;
    Ok(Connection { stream })
}

/// Listens at `socket`, to which only this user and root can connect.
///
/// # Errors
/// When the socket can't be made, or others may write to its directory.
pub fn listen(socket: &Path) -> io::Result<UnixListener> {
    let (directory, name) = parts(socket)?;
    let listening = Directory::open(directory).and_then(|directory| directory.listen(name));
    listening.map_err(io::Error::other)
}

fn parts(socket: &Path) -> io::Result<(&Path, &OsStr)> {
    let parts = socket.parent().zip(socket.file_name());
    parts.ok_or_else(|| io::Error::other("the socket has no name"))
}

fn is_gone(err: &private::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    let private::Error::Io { source, .. } = err else {
        return false;
    };
    matches!(source.kind(), NotFound | ConnectionRefused)
}

impl From<UnixStream> for Connection {
    fn from(stream: UnixStream) -> Self {
        Self { stream }
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

impl Connection {
    /// One that was accepted, if it comes from this user or root. The mode of the socket
    /// holds others off; this holds where somebody has changed that.
    pub(crate) fn accepted(stream: UnixStream) -> Option<Self> {
        let is_trusted = private::is_trusted(&stream).unwrap_or(false);
        is_trusted.then_some(Self { stream })
    }

    /// Lets each message take so long at most, in both directions.
    ///
    /// # Errors
    /// The socket's.
    pub fn limit(&self, limit: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(limit))?;
        self.stream.set_write_timeout(Some(limit))
    }

    /// A second handle of the same connection, for another thread.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub fn duplicate(&self) -> io::Result<Self> {
        Ok(Self {
            stream: self.stream.try_clone()?,
        })
    }

    /// The process at the other end, by its pid here.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn peer_pid(&self) -> io::Result<i32> {
        Ok(getsockopt(&self.stream, PeerCredentials)?.pid())
    }

    /// Ends it for both sides, whatever handles there are.
    pub(crate) fn hang_up(&self) {
        self.stream.shutdown(std::net::Shutdown::Both).ok();
    }

    /// Sends a message with descriptors beside it.
    ///
    /// # Errors
    /// When the other end is gone.
    pub fn send<T: Serialize>(&self, message: &T, descriptors: &[RawFd]) -> Result<(), Error> {
        let (head, body) = encode(message)?;
        let rights = [ControlMessage::ScmRights(descriptors)];
        let rights = if descriptors.is_empty() {
            &rights[..0]
        } else {
            &rights[..]
        };
        let fd = self.stream.as_raw_fd();
        sendmsg::<()>(
            fd,
            &[IoSlice::new(&head)],
            rights,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .map_err(|errno| lost(errno.into()))?;
        (&self.stream).write_all(&body).map_err(lost)
    }

    /// Sends a message if there is room for it now.
    ///
    /// # Errors
    /// When the other end is gone or doesn't read; the connection is of no use then,
    /// since half of the message may be under way.
    pub fn send_at_once<T: Serialize>(&self, message: &T) -> Result<(), Error> {
        let (head, body) = encode(message)?;
        let parts = [IoSlice::new(&head), IoSlice::new(&body)];
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let sent = sendmsg::<()>(self.stream.as_raw_fd(), &parts, &[], flags, None)
            .map_err(|errno| lost(errno.into()))?;
        if sent == head.len() + body.len() {
            Ok(())
        } else {
            Err(Error::Closed)
        }
    }

    /// Waits for a message and the descriptors beside it.
    ///
    /// # Errors
    /// [`Error::Closed`] when the other end has closed.
    pub fn receive<T: DeserializeOwned>(&self) -> Result<(T, Vec<OwnedFd>), Error> {
        let (length, descriptors) = self.receive_head()?;
        if length > MAX_MESSAGE_LEN {
            return Err(Error::TooLong(length.into()));
        }
        let mut body = vec![0; length as usize];
        (&self.stream).read_exact(&mut body).map_err(lost)?;
        let message = serde_json::from_slice(&body).map_err(Error::Decode)?;
        Ok((message, descriptors))
    }

    fn receive_head(&self) -> Result<(u32, Vec<OwnedFd>), Error> {
        let mut head = [0; 4];
        let mut space = nix::cmsg_space!([RawFd; MAX_DESCRIPTORS]);
        let mut parts = [IoSliceMut::new(&mut head)];
        let flags = MsgFlags::MSG_WAITALL | MsgFlags::MSG_CMSG_CLOEXEC;
        let fd = self.stream.as_raw_fd();
        let message = recvmsg::<()>(fd, &mut parts, Some(&mut space), flags)
            .map_err(|errno| lost(errno.into()))?;
        let descriptors = owned(message.cmsgs().map_err(io::Error::from)?);
        if message.bytes < 4 {
            return Err(Error::Closed);
        }
        Ok((u32::from_le_bytes(head), descriptors))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// A message as it travels: its length, then itself.
fn encode<T: Serialize>(message: &T) -> Result<([u8; 4], Vec<u8>), Error> {
    let body = serde_json::to_vec(message).map_err(Error::Decode)?;
    let length = u32::try_from(body.len())
        .ok()
        .filter(|length| *length <= MAX_MESSAGE_LEN)
        .ok_or(Error::TooLong(body.len() as u64))?;
    Ok((length.to_le_bytes(), body))
}

/// Takes what SCM_RIGHTS carried.
pub(crate) fn owned(messages: impl Iterator<Item = ControlMessageOwned>) -> Vec<OwnedFd> {
    let mut descriptors = Vec::new();
    for message in messages {
        if let ControlMessageOwned::ScmRights(numbers) = message {
            descriptors.extend(numbers.into_iter().map(crate::sys::adopt));
        }
    }
    descriptors
}

fn lost(err: io::Error) -> Error {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, TimedOut, UnexpectedEof, WouldBlock};
    match err.kind() {
        TimedOut | WouldBlock => Error::Silent,
        BrokenPipe | ConnectionReset | UnexpectedEof => Error::Closed,
        _ => Error::Io(err),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::owner::{Reply, Request};

    fn pair() -> (Connection, Connection) {
        let (one, other) = UnixStream::pair().unwrap();
        (one.into(), other.into())
    }

    #[test]
    fn a_message_arrives_with_its_descriptors() {
        let (one, other) = pair();
        let file = File::open("/dev/null").unwrap();
        one.send(&Reply::Started, &[file.as_raw_fd(), file.as_raw_fd()])
            .unwrap();
        let (reply, descriptors) = other.receive::<Reply>().unwrap();
        assert_eq!(reply, Reply::Started);
        assert_eq!(descriptors.len(), 2);
    }

    #[test]
    fn a_closed_end_and_a_too_long_message_are_told_apart() {
        let (one, other) = pair();
        drop(one);
        assert!(matches!(other.receive::<Request>(), Err(Error::Closed)));
        let (one, other) = pair();
        (&one.stream).write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(matches!(other.receive::<Request>(), Err(Error::TooLong(_))));
    }

    #[test]
    fn a_socket_below_a_long_path_can_be_reached() {
        let folder = std::env::temp_dir()
            .join(format!("caisson-wire-{}", std::process::id()))
            .join("x".repeat(150));
        std::fs::create_dir_all(&folder).unwrap();
        let listener = listen(&folder.join("s")).unwrap();
        connect(&folder.join("s")).unwrap();
        drop(listener);
        assert!(matches!(connect(&folder.join("s")), Err(Error::Closed)));
        std::fs::remove_dir_all(folder.parent().unwrap()).unwrap();
    }
}
