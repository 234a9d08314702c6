//! The socket: a request and its acknowledgement, a dump, events.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    socket,
};

use crate::message::{Answer, Message, parts};

/// The kernel fills packets of a dump up to 32 KiB.
const PACKET_LEN: usize = 64 * 1024;

/// A socket that queries and changes the network namespace in which it was opened.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// A socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> io::Result<Self> {
        open(0).map(Self)
    }

    /// Sends a request, and waits for its acknowledgement.
    ///
    /// # Errors
    /// The kernel's.
    pub fn change(&self, message: &Message) -> io::Result<()> {
        self.request(message, libc::NLM_F_ACK, |_| {})
    }

    /// Sends a dump request. Returns all messages of the reply.
    ///
    /// # Errors
    /// The kernel's.
    pub fn list(&self, message: &Message) -> io::Result<Vec<Answer>> {
        let mut replies = Vec::new();
        self.request(message, libc::NLM_F_DUMP, |reply| replies.push(reply))?;
        Ok(replies)
    }

    fn request(
        &self,
        message: &Message,
        flags: i32,
        mut each: impl FnMut(Answer),
    ) -> io::Result<()> {
        let fd = self.0.as_raw_fd();
        send(fd, &message.finish(flags), MsgFlags::empty())?;
        let mut packet = vec![0; PACKET_LEN];
        loop {
            let length = receive(fd, &mut packet)?;
            for reply in parts(packet.get(..length).unwrap_or_default()) {
                match i32::from(reply.kind) {
                    libc::NLMSG_ERROR => return outcome(&reply.body),
                    libc::NLMSG_DONE => return Ok(()),
                    _ => each(reply),
                }
            }
        }
    }
}

/// Receives notifications of changes in a network namespace.
#[derive(Debug)]
pub struct Events(OwnedFd);

impl Events {
    /// Joins the multicast `groups` (a bit for each `RTMGRP_*`) of the calling thread's
    /// network namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub fn subscribe(groups: i32) -> io::Result<Self> {
        open(groups.unsigned_abs()).map(Self)
    }

    /// Waits for a change, and drops the notifications: many come at once, and some are
    /// lost when there are too many.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&self) -> io::Result<()> {
        let fd = self.0.as_raw_fd();
        let mut packet = vec![0; PACKET_LEN];
        match recv(fd, &mut packet, MsgFlags::empty()) {
            Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        loop {
            match recv(fd, &mut packet, MsgFlags::MSG_DONTWAIT) {
                Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn open(groups: u32) -> io::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(socket)
}

fn receive(fd: i32, packet: &mut [u8]) -> io::Result<usize> {
    loop {
        match recv(fd, packet, MsgFlags::empty()) {
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Body of `NLMSG_ERROR`: a negative errno, 0 for none.
fn outcome(body: &[u8]) -> io::Result<()> {
    match body.get(..4).and_then(|code| code.try_into().ok()) {
        Some(code) => match i32::from_ne_bytes(code) {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(-code)),
        },
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_namespace_has_a_loopback_interface_and_no_interface_minus_one() {
        let socket = Socket::open().unwrap();
        let all = Message::new(libc::RTM_GETLINK, 0, &[0; 16]);
        let links = socket.list(&all).unwrap();
        let name = |reply: &Answer| {
            let (_, attributes) = reply.split(16).unwrap();
            attributes.find(libc::IFLA_IFNAME).map(crate::text)
        };
        assert!(links.iter().any(|link| name(link).unwrap() == "lo"));
        let index = (-1_i32).to_ne_bytes();
        let header = [&[0; 4][..], &index, &[0; 8]].concat();
        let missing = Message::new(libc::RTM_DELLINK, 0, &header);
        socket.change(&missing).unwrap_err();
    }
}
