//! What the device waits for on the host's side: streams, the channel, one timer.
//!
//! Owns the epoll set, whose descriptor stands for all of them in the event loop of
//! whoever runs the device. Streams are watched edge-triggered and leave the set by
//! being closed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::channel::Channel;

/// Events that are taken with one system call.
const BATCH_LEN: usize = 64;
/// A port that nothing can have (`VMADDR_PORT_ANY`).
pub const NO_PORT: u32 = u32::MAX;

const CHANNEL: Ports = Ports {
    guest: NO_PORT,
    host: 0,
};
const TIMER: Ports = Ports {
    guest: NO_PORT,
    host: 1,
};
const AGAIN: Ports = Ports {
    guest: NO_PORT,
    host: 2,
};

/// The two ports that name a connection. No real one has `NO_PORT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ports {
    /// At the guest.
    pub guest: u32,
    /// At the host.
    pub host: u32,
}

impl Ports {
    fn to_token(self) -> u64 {
        (u64::from(self.guest) << 32) | u64::from(self.host)
    }

    fn from_token(token: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = token.to_be_bytes();
        Self {
            guest: u32::from_be_bytes([a, b, c, d]),
            host: u32::from_be_bytes([e, f, g, h]),
        }
    }
}

/// Something happened on the host's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The stream of a connection is ready.
    Stream(Ports, EpollFlags),
    /// The timer ran out.
    Timeout,
    /// The owner closed its end of the channel.
    OwnerGone,
}

/// The set of everything that is waited for.
#[derive(Debug)]
pub struct HostEvents {
    epoll: Epoll,
    timer: TimerFd,
    again: EventFd,
}

impl HostEvents {
    /// Watches the channel and a stopped timer.
    pub fn new(channel: &Channel) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?;
        let again = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?;
        let set = Self {
            epoll,
            timer,
            again,
        };
        // A hang-up is reported without being asked for; nothing is ever read.
        set.watch(channel.as_fd(), EpollFlags::EPOLLET, CHANNEL)?;
        // Edge-triggered, these two report each expiry and each write unread.
        set.watch(
            set.timer.as_fd(),
            EpollFlags::EPOLLIN | EpollFlags::EPOLLET,
            TIMER,
        )?;
        set.watch(
            set.again.as_fd(),
            EpollFlags::EPOLLIN | EpollFlags::EPOLLET,
            AGAIN,
        )?;
        Ok(set)
    }

    /// Starts to watch a stream.
    pub fn watch(&self, fd: BorrowedFd<'_>, interest: EpollFlags, ports: Ports) -> io::Result<()> {
        Ok(self
            .epoll
            .add(fd, EpollEvent::new(interest, ports.to_token()))?)
    }

    /// Changes what a watched stream is watched for.
    pub fn rewatch(
        &self,
        fd: BorrowedFd<'_>,
        interest: EpollFlags,
        ports: Ports,
    ) -> io::Result<()> {
        Ok(self
            .epoll
            .modify(fd, &mut EpollEvent::new(interest, ports.to_token()))?)
    }

    /// Lets the timer run out once, `after` from now.
    pub fn set_timer(&self, after: Duration) -> io::Result<()> {
        // Zero would stop the timer.
        let after = TimeSpec::from_duration(after.max(Duration::from_micros(1)));
        Ok(self
            .timer
            .set(Expiration::OneShot(after), TimerSetTimeFlags::empty())?)
    }

    /// Makes the set ready once more, for work that was put off.
    pub fn come_again(&self) -> io::Result<()> {
        self.again.write(1)?;
        Ok(())
    }

    /// Everything that happened since the last call; doesn't wait.
    pub fn take(&self) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        let mut batch = [EpollEvent::empty(); BATCH_LEN];
        loop {
            let count = match self.epoll.wait(&mut batch, EpollTimeout::ZERO) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            events.extend(batch.iter().take(count).filter_map(event));
            if count < BATCH_LEN {
                return Ok(events);
            }
        }
    }
}

impl AsFd for HostEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

fn event(raw: &EpollEvent) -> Option<Event> {
    match Ports::from_token(raw.data()) {
        CHANNEL => Some(Event::OwnerGone),
        TIMER => Some(Event::Timeout),
        AGAIN => None,
        ports => Some(Event::Stream(ports, raw.events())),
    }
}
