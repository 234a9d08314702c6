//! A connection joined with its host end.
//!
//! Owns the order of things between the two: bytes before ends, and an end only
//! once every byte before it went through.

use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use nix::sys::epoll::EpollFlags;
use vm_memory::VolatileSlice;

use super::connection::{Connection, Fate, Notice};
use super::packet::{Header, Operation};
use super::stream::{Read, Stream};

/// Most payload of one packet, in bytes (as Linux has it).
pub const MAX_PAYLOAD_LEN: usize = 64 * 1024;

/// A packet for the guest, apart from its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing {
    /// Operation and flags.
    pub notice: Notice,
    /// Bytes of payload that were put into the guest's buffer.
    pub len: u32,
}

/// The guest violated the protocol of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation;

/// One connection and its stream.
#[derive(Debug)]
pub struct Link {
    connection: Connection,
    stream: Stream,
    /// The stream may have bytes or an end: it was not read empty since it became ready.
    is_readable: bool,
    /// The stream is shut towards the owner.
    is_write_shut: bool,
    /// The stream is shut from the owner.
    is_read_shut: bool,
    /// What its descriptor is being watched for.
    pub watched: EpollFlags,
    /// It stands in the muxer's queue of links with something for the guest.
    pub is_queued: bool,
}

impl Link {
    /// The link that a `Request` made.
    #[must_use]
    pub fn new(header: &Header, stream: Stream) -> Self {
        Self {
            connection: Connection::requested(header),
            stream,
            is_readable: false,
            is_write_shut: false,
            is_read_shut: false,
            watched: EpollFlags::empty(),
            is_queued: false,
        }
    }

    /// What its descriptor has to be watched for, edge-triggered.
    #[must_use]
    pub fn interest(&self) -> EpollFlags {
        let always = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        if self.stream.is_blocked() {
            always | EpollFlags::EPOLLOUT
        } else {
            always
        }
    }

    /// Takes one packet of the guest; `payload` has the length in the header.
    pub fn receive(
        &mut self,
        operation: Operation,
        header: &Header,
        payload: &[VolatileSlice<'_>],
    ) -> Result<(), Violation> {
        self.connection.guest_announces(header);
        match operation {
            Operation::Request | Operation::Response => return Err(Violation),
            Operation::Reset => self.connection.guest_reset(),
            Operation::Shutdown => self.connection.guest_shut(header.flags),
            Operation::Data => self.forward(header.len, payload)?,
            Operation::CreditRequest => self.connection.guest_asks(),
            Operation::CreditUpdate => {}
        }
        self.follow_guest();
        Ok(())
    }

    /// The stream's descriptor is ready for something.
    pub fn stream_ready(&mut self, readiness: EpollFlags) {
        if readiness.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            self.stop_forwarding();
            if !self.connection.guest_receives() {
                self.connection.host_ended();
            }
        } else if readiness.contains(EpollFlags::EPOLLOUT) {
            let flushed = self.stream.flush();
            self.account(flushed);
        }
        self.is_readable |= readiness.intersects(!EpollFlags::EPOLLOUT);
        self.follow_guest();
    }

    /// There is something for the guest.
    #[must_use]
    pub fn has_outgoing(&self) -> bool {
        let has_payload = self.is_readable && self.connection.sendable() > 0;
        has_payload || self.connection.has_notice(self.is_readable)
    }

    /// The next packet for the guest, its payload put into `room`. `None`: there was
    /// nothing after all.
    pub fn next(&mut self, room: &[VolatileSlice<'_>], now: Instant) -> Option<Outgoing> {
        if let Some(len) = self.read(room) {
            self.connection.sent(len);
            let notice = Notice {
                operation: Operation::Data,
                flags: 0,
            };
            return Some(Outgoing { notice, len });
        }
        let notice = self.connection.notice(self.is_readable, now)?;
        Some(Outgoing { notice, len: 0 })
    }

    /// `buf_alloc` and `fwd_cnt` of a packet that is being sent.
    pub fn announce(&mut self) -> (u32, u32) {
        self.connection.announce()
    }

    /// Bytes of the guest that the stream has no room for.
    #[must_use]
    pub fn waiting_len(&self) -> usize {
        self.stream.waiting_len()
    }

    /// Whether it goes on.
    #[must_use]
    pub fn fate(&self, now: Instant) -> Fate {
        self.connection.fate(self.waiting_len() == 0, now)
    }

    /// When it is ended by force, if it is being closed.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.connection.deadline()
    }

    fn forward(&mut self, len: u32, payload: &[VolatileSlice<'_>]) -> Result<(), Violation> {
        if !self.connection.guest_sends() {
            return Err(Violation);
        }
        self.connection
            .credit
            .received(len)
            .map_err(|_| Violation)?;
        if self.connection.host_receives() {
            let written = self.stream.write(payload);
            self.account(written);
        } else {
            self.connection.credit.forwarded(len);
        }
        Ok(())
    }

    /// Books what a write or flush got rid of.
    fn account(&mut self, written: std::io::Result<usize>) {
        match written.map(u32::try_from) {
            Ok(Ok(len)) => self.connection.credit.forwarded(len),
            Ok(Err(_)) | Err(_) => self.stop_forwarding(),
        }
    }

    fn stop_forwarding(&mut self) {
        self.stream.discard();
        self.connection.credit.forwarded_all();
        self.connection.host_stopped_reading();
    }

    /// Closes directions of the stream that the guest has closed.
    fn follow_guest(&mut self) {
        let is_all_sent = !self.connection.guest_sends() && !self.stream.is_blocked();
        if is_all_sent && !self.is_write_shut {
            self.is_write_shut = true;
            self.shutdown(Shutdown::Write);
        }
        if !self.connection.guest_receives() && !self.is_read_shut {
            self.is_read_shut = true;
            self.shutdown(Shutdown::Read);
        }
    }

    /// A stream that can't be shut is closed already, which its readiness shows.
    fn shutdown(&self, direction: Shutdown) {
        drop(self.stream.shutdown(direction));
    }

    fn read(&mut self, room: &[VolatileSlice<'_>]) -> Option<u32> {
        let sendable = usize::try_from(self.connection.sendable()).unwrap_or(MAX_PAYLOAD_LEN);
        if !self.is_readable || sendable == 0 {
            return None;
        }
        let read = self.stream.read(room, sendable.min(MAX_PAYLOAD_LEN));
        match read {
            Ok(Read::Bytes(len)) => return u32::try_from(len).ok(),
            Ok(Read::Empty) => {}
            Ok(Read::End) => self.connection.host_ended(),
            Err(_) => {
                self.stop_forwarding();
                self.connection.host_ended();
            }
        }
        self.is_readable = false;
        None
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
