//! The conversation between the agent and a process that is being set up: one
//! packet per message, with a descriptor where one is handed over.
//!
//! Owns the socket pair. The program's execve closes the child's end, which is
//! how the agent learns that it succeeded.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::sys;

/// A message from the child to the agent.
#[derive(Debug)]
pub(crate) enum Report {
    /// It has entered a user namespace and waits for its id maps.
    NeedsIdMaps,
    /// The pid of the second process, in the guest's root pid namespace.
    Continues(i32),
    /// The master of the terminal it made.
    Terminal(OwnedFd),
    /// Everything before execve is done; it waits for [`AgentEnd::go`].
    Ready,
    /// Only execve is left to be done.
    Executes,
    /// It could not go on, and why, on one line.
    Failed(String),
}

/// Makes the two ends; the number of the child's is `lowest` at least.
///
/// # Errors
/// No descriptors left.
pub(crate) fn pair(lowest: RawFd) -> io::Result<(AgentEnd, ChildEnd)> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    let theirs = rustix::io::fcntl_dupfd_cloexec(theirs, lowest)?;
    Ok((AgentEnd(sys::watch(ours)?), ChildEnd(theirs)))
}

/// The agent's end, on its event loop.
#[derive(Debug)]
pub(crate) struct AgentEnd(AsyncFd<OwnedFd>);

impl AgentEnd {
    /// The child's next message; `None` when the child's end is closed, by execve
    /// or because it died.
    ///
    /// # Errors
    /// The kernel's, or a packet that no child of ours sends.
    pub(crate) async fn next(&self) -> io::Result<Option<Report>> {
        let next = self
            .0
            .async_io(Interest::READABLE, |socket| receive(socket.as_fd()));
        match next.await {
            // A child that was killed has left a message unread.
            Err(err) if err.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            other => other,
        }
    }

    /// Allows the child to go on.
    ///
    /// # Errors
    /// The child is dead.
    pub(crate) fn go(&self) -> io::Result<()> {
        rustix::net::send(&self.0, b"g", SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

/// The child's end.
#[derive(Debug)]
pub(crate) struct ChildEnd(OwnedFd);

impl ChildEnd {
    /// Sends a message to the agent.
    ///
    /// # Errors
    /// The agent has given up.
    pub(crate) fn report(&self, report: &Report) -> io::Result<()> {
        let number;
        let (tag, payload): (u8, &[u8]) = match report {
            Report::NeedsIdMaps => (b'm', &[]),
            Report::Continues(pid) => {
                number = pid.to_le_bytes();
                (b'p', &number)
            }
            Report::Terminal(_) => (b't', &[]),
            Report::Ready => (b'r', &[]),
            Report::Executes => (b'x', &[]),
            Report::Failed(line) => (b'f', line.as_bytes()),
        };
        let payload = payload.get(..MAX_TEXT).unwrap_or(payload);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let handed: [BorrowedFd<'_>; 1];
        if let Report::Terminal(master) = report {
            handed = [master.as_fd()];
            ancillary.push(SendAncillaryMessage::ScmRights(&handed));
        }
        let parts = [
            IoSlice::new(std::slice::from_ref(&tag)),
            IoSlice::new(payload),
        ];
        sendmsg(&self.0, &parts, &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits for [`AgentEnd::go`]. Returns `false` when the agent has given up.
    #[must_use]
    pub(crate) fn wait(&self) -> bool {
        let mut permission = [0_u8; 1];
        loop {
            match rustix::io::read(&self.0, &mut permission) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(1) => return true,
                _ => return false,
            }
        }
    }
}

impl AsRawFd for ChildEnd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<Report>> {
    let mut bytes = vec![0; MAX_TEXT + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let handed = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let Some((tag, payload)) = bytes.get(..received.bytes).and_then(<[u8]>::split_first) else {
        return Ok(None);
    };
    parse(*tag, payload, handed)
        .map(Some)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parse(tag: u8, payload: &[u8], handed: Option<OwnedFd>) -> Option<Report> {
    Some(match tag {
        b'm' => Report::NeedsIdMaps,
        b'p' => Report::Continues(i32::from_le_bytes(payload.try_into().ok()?)),
        b't' => Report::Terminal(handed?),
        b'r' => Report::Ready,
        b'x' => Report::Executes,
        b'f' => Report::Failed(String::from_utf8_lossy(payload).into_owned()),
        _ => return None,
    })
}

/// Longer reasons are cut: a packet has a limit, as has an error line.
const MAX_TEXT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn messages_arrive_whole_and_in_order_and_then_the_end() {
        let (agent, child) = pair(3).unwrap();
        child.report(&Report::Continues(7)).unwrap();
        child.report(&Report::Failed("mount /x".into())).unwrap();
        agent.go().unwrap();
        assert!(child.wait());
        assert!(matches!(agent.next().await, Ok(Some(Report::Continues(7)))));
        let failed = agent.next().await;
        assert!(matches!(failed, Ok(Some(Report::Failed(line))) if line == "mount /x"));
        drop(child);
        assert!(matches!(agent.next().await, Ok(None)));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_descriptor_crosses() {
        let (agent, child) = pair(3).unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        child.report(&Report::Terminal(null.into())).unwrap();
        assert!(matches!(agent.next().await, Ok(Some(Report::Terminal(_)))));
    }
}
