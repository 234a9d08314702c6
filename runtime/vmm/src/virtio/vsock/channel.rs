//! The way of new connections to the owner.
//!
//! Owns the channel's descriptor and the form of a packet on it: the port (u32,
//! little endian) with one stream socket attached. Never waits for the owner.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};

/// The device's end of a connected SOCK_SEQPACKET pair.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Takes the descriptor over.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Makes a stream for `port`, hands one end to the owner and returns the other,
    /// nonblocking. Any error means that the owner doesn't have it.
    pub fn open(&self, port: u32) -> io::Result<UnixStream> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?;
        let ours = UnixStream::from(ours);
        ours.set_nonblocking(true)?;
        let attached = [theirs.as_raw_fd()];
        sendmsg::<()>(
            self.0.as_raw_fd(),
            &[IoSlice::new(&port.to_le_bytes())],
            &[ControlMessage::ScmRights(&attached)],
            MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        Ok(ours)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
