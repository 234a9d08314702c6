//! All connections of one device: which packet belongs to which, and whose turn it is.
//!
//! Owns the map of connections, the order in which they send to the guest (one
//! packet each, in turn) and the resets for everything that isn't a connection.
//! Knows no queues: `receive` takes one packet of the guest, `next` gives one back.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::sys::epoll::EpollFlags;
use vm_memory::VolatileSlice;

use super::channel::Channel;
use super::connection::Fate;
use super::host::{Event, HostEvents, NO_PORT, Ports};
use super::link::{Link, Outgoing};
use super::packet::{HOST_CID, Header, Operation, STREAM};
use super::stream::Stream;

/// Most connections at one time; further requests are refused.
pub const MAX_CONNECTIONS: usize = 1024;
/// Most resets that wait for the guest; a guest that takes none loses further ones.
const MAX_RESETS: usize = MAX_CONNECTIONS;

/// Why the device can't go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The owner closed the channel.
    #[error("the owner of the vsock channel is gone")]
    OwnerGone,
    /// Descriptors could not be watched.
    #[error("watch the host side of vsock")]
    Watch(#[from] io::Error),
}

/// A `Reset` that belongs to no connection any more.
#[derive(Debug, Clone, Copy)]
struct Reset {
    /// Address the guest was talking to.
    cid: u64,
    ports: Ports,
    kind: u16,
}

/// The connections of one guest.
#[derive(Debug)]
pub struct Muxer {
    guest_cid: u64,
    channel: Channel,
    host: HostEvents,
    links: HashMap<Ports, Link>,
    /// Connections with something for the guest, each once.
    ready: VecDeque<Ports>,
    resets: VecDeque<Reset>,
    is_timer_set: bool,
}

impl Muxer {
    /// A muxer without connections; `channel` is the device's end of a SOCK_SEQPACKET
    /// pair.
    pub fn new(guest_cid: u64, channel: OwnedFd) -> io::Result<Self> {
        let channel = Channel::new(channel);
        let host = HostEvents::new(&channel)?;
        Ok(Self {
            guest_cid,
            channel,
            host,
            links: HashMap::new(),
            ready: VecDeque::new(),
            resets: VecDeque::new(),
            is_timer_set: false,
        })
    }

    /// Drops every connection: the owner reads ends of file.
    pub fn clear(&mut self) {
        self.links.clear();
        self.ready.clear();
        self.resets.clear();
    }

    /// Makes the descriptor of this muxer ready once more.
    pub fn come_again(&self) -> io::Result<()> {
        self.host.come_again()
    }

    /// Takes one packet of the guest. `payload` is everything behind the header.
    pub fn receive(&mut self, header: &Header, payload: &[VolatileSlice<'_>]) {
        // Nothing can be answered to a sender that isn't the guest.
        if header.src_cid != self.guest_cid {
            return;
        }
        let operation = Operation::from_number(header.op);
        let ports = Ports {
            guest: header.src_port,
            host: header.dst_port,
        };
        let is_ours = header.dst_cid == HOST_CID && header.kind == STREAM;
        match (operation, self.links.get_mut(&ports)) {
            (Some(operation), Some(link)) if is_ours => {
                let now = Instant::now();
                if link.receive(operation, header, payload).is_err() {
                    self.end(ports, Fate::Reset);
                } else {
                    self.settle(ports, now);
                }
            }
            (Some(Operation::Reset), _) => {}
            (Some(Operation::Request), None) if is_ours => self.open(ports, header),
            _ => self.refuse(header),
        }
    }

    /// Takes what happened on the host's side. Called when the descriptor is ready.
    pub fn host_ready(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        for event in self.host.take()? {
            match event {
                Event::Stream(ports, readiness) => self.stream_ready(ports, readiness, now),
                Event::Timeout => self.expire(now)?,
                Event::OwnerGone => return Err(Error::OwnerGone),
            }
        }
        Ok(())
    }

    /// There may be a packet for the guest.
    #[must_use]
    pub fn has_outgoing(&self) -> bool {
        !self.resets.is_empty() || !self.ready.is_empty()
    }

    /// The next packet for the guest, its payload put into `room`. `None`: there was
    /// nothing after all.
    pub fn next(&mut self, room: &[VolatileSlice<'_>]) -> Option<Header> {
        let now = Instant::now();
        loop {
            if let Some(reset) = self.resets.pop_front() {
                return Some(self.reset_header(&reset));
            }
            let ports = self.ready.pop_front()?;
            let Some(link) = self.links.get_mut(&ports) else {
                continue;
            };
            link.is_queued = false;
            let outgoing = link.next(room, now);
            let (buf_alloc, fwd_cnt) = if outgoing.is_some() {
                link.announce()
            } else {
                (0, 0)
            };
            self.settle(ports, now);
            if let Some(outgoing) = outgoing {
                let header = self.header(ports, outgoing);
                return Some(Header {
                    buf_alloc,
                    fwd_cnt,
                    ..header
                });
            }
        }
    }

    fn open(&mut self, ports: Ports, header: &Header) {
        let is_possible =
            self.links.len() < MAX_CONNECTIONS && ports.guest != NO_PORT && ports.host != NO_PORT;
        let Some(socket) = is_possible
            .then(|| self.channel.open(ports.host).ok())
            .flatten()
        else {
            self.refuse(header);
            return;
        };
        let mut link = Link::new(header, Stream::new(socket));
        link.watched = link.interest();
        if self.host.watch(link.as_fd(), link.watched, ports).is_err() {
            self.refuse(header);
            return;
        }
        self.links.insert(ports, link);
        self.settle(ports, Instant::now());
    }

    fn stream_ready(&mut self, ports: Ports, readiness: EpollFlags, now: Instant) {
        // An event before this one can have ended the connection.
        if let Some(link) = self.links.get_mut(&ports) {
            link.stream_ready(readiness);
            self.settle(ports, now);
        }
    }

    /// Draws the conclusions from a change of one connection.
    fn settle(&mut self, ports: Ports, now: Instant) {
        let Some(link) = self.links.get_mut(&ports) else {
            return;
        };
        let mut fate = link.fate(now);
        let interest = link.interest();
        if fate == Fate::Lives && link.watched != interest {
            link.watched = interest;
            if self.host.rewatch(link.as_fd(), interest, ports).is_err() {
                fate = Fate::Reset;
            }
        }
        if fate != Fate::Lives {
            self.end(ports, fate);
            return;
        }
        if !link.is_queued && link.has_outgoing() {
            link.is_queued = true;
            self.ready.push_back(ports);
        }
        let deadline = link.deadline();
        if let Some(deadline) = deadline.filter(|_| !self.is_timer_set) {
            let after = deadline.saturating_duration_since(now);
            self.is_timer_set = self.host.set_timer(after).is_ok();
        }
    }

    fn end(&mut self, ports: Ports, fate: Fate) {
        let link = self.links.remove(&ports);
        // What stays in the queue would add up while the guest takes nothing.
        if link.is_some_and(|link| link.is_queued) {
            self.ready.retain(|queued| *queued != ports);
        }
        if fate == Fate::Reset {
            self.push_reset(Reset {
                cid: HOST_CID,
                ports,
                kind: STREAM,
            });
        }
    }

    /// Ends every connection whose guest took too long to close it. They all have the
    /// same time, so the timer stands for the earliest of them.
    fn expire(&mut self, now: Instant) -> io::Result<()> {
        self.is_timer_set = false;
        let closing: Vec<Ports> = self
            .links
            .iter()
            .filter(|(_, link)| link.deadline().is_some())
            .map(|(ports, _)| *ports)
            .collect();
        for ports in closing {
            self.settle(ports, now);
        }
        let deadlines = self.links.values().filter_map(Link::deadline);
        if let Some(earliest) = deadlines.min() {
            self.host
                .set_timer(earliest.saturating_duration_since(now))?;
            self.is_timer_set = true;
        }
        Ok(())
    }

    fn refuse(&mut self, header: &Header) {
        let ports = Ports {
            guest: header.src_port,
            host: header.dst_port,
        };
        self.push_reset(Reset {
            cid: header.dst_cid,
            ports,
            kind: header.kind,
        });
    }

    fn push_reset(&mut self, reset: Reset) {
        if self.resets.len() < MAX_RESETS {
            self.resets.push_back(reset);
        }
    }

    fn reset_header(&self, reset: &Reset) -> Header {
        Header {
            src_cid: reset.cid,
            dst_cid: self.guest_cid,
            src_port: reset.ports.host,
            dst_port: reset.ports.guest,
            kind: reset.kind,
            op: Operation::Reset.number(),
            ..Header::default()
        }
    }

    fn header(&self, ports: Ports, outgoing: Outgoing) -> Header {
        Header {
            src_cid: HOST_CID,
            dst_cid: self.guest_cid,
            src_port: ports.host,
            dst_port: ports.guest,
            len: outgoing.len,
            kind: STREAM,
            op: outgoing.notice.operation.number(),
            flags: outgoing.notice.flags,
            ..Header::default()
        }
    }
}

impl AsFd for Muxer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.host.as_fd()
    }
}

#[cfg(test)]
#[path = "muxer_test.rs"]
mod tests;
