//! One epoll for everything the process waits for, and names for its sources.
//!
//! Level-triggered but for kicks, whose count nobody needs. Owns no descriptor but its
//! own.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use crate::virtio::device::Events;

/// Most events taken at once.
const BATCH: usize = 16;

/// Who became ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A vCPU has a message.
    Inbox,
    /// The owner has a request, or is dead.
    Owner,
    /// The guest made buffers available.
    Kick {
        /// The slot of the device.
        slot: u16,
        /// Its queue.
        queue: u16,
    },
    /// A descriptor that a device watches.
    Device {
        /// The slot of the device.
        slot: u16,
        /// The device's own name for it.
        token: u32,
    },
}

impl Source {
    const INBOX: u16 = 0;
    const OWNER: u16 = 1;
    const KICK: u16 = 2;
    const DEVICE: u16 = 3;

    fn encode(self) -> u64 {
        let (kind, slot, value) = match self {
            Self::Inbox => (Self::INBOX, 0, 0),
            Self::Owner => (Self::OWNER, 0, 0),
            Self::Kick { slot, queue } => (Self::KICK, slot, queue.into()),
            Self::Device { slot, token } => (Self::DEVICE, slot, token),
        };
        u64::from(kind) << 48 | u64::from(slot) << 32 | u64::from(value)
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "takes apart what `encode` put together"
    )]
    fn decode(data: u64) -> Self {
        let (kind, slot, value) = ((data >> 48) as u16, (data >> 32) as u16, data as u32);
        match kind {
            Self::INBOX => Self::Inbox,
            Self::OWNER => Self::Owner,
            Self::KICK => Self::Kick {
                slot,
                queue: value as u16,
            },
            _ => Self::Device { slot, token: value },
        }
    }
}

/// The epoll instance.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: Epoll,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new()?,
        })
    }

    /// Starts to watch `fd` for input.
    pub(crate) fn watch_input(&self, fd: &impl AsRawFd, source: Source) -> io::Result<()> {
        let event = EpollEvent::new(EventSet::IN, source.encode());
        self.epoll.ctl(ControlOperation::Add, fd.as_raw_fd(), event)
    }

    /// Starts to watch an eventfd that is never read: each signal counts once.
    pub(crate) fn watch_signals(&self, fd: &impl AsRawFd, source: Source) -> io::Result<()> {
        let interest = EventSet::IN | EventSet::EDGE_TRIGGERED;
        let event = EpollEvent::new(interest, source.encode());
        self.epoll.ctl(ControlOperation::Add, fd.as_raw_fd(), event)
    }

    /// Stops watching `fd`.
    pub(crate) fn unwatch(&self, fd: &impl AsRawFd) -> io::Result<()> {
        let event = EpollEvent::default();
        self.epoll
            .ctl(ControlOperation::Delete, fd.as_raw_fd(), event)
    }

    /// Waits for whatever comes first, and calls `each` for what is ready.
    pub(crate) fn wait<E: From<io::Error>>(
        &self,
        each: impl FnMut(Source, EventSet) -> Result<(), E>,
    ) -> Result<(), E> {
        self.take(-1, each)
    }

    /// As `wait`, for what is ready by now.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn look<E: From<io::Error>>(
        &self,
        each: impl FnMut(Source, EventSet) -> Result<(), E>,
    ) -> Result<(), E> {
        self.take(0, each)
    }

    fn take<E: From<io::Error>>(
        &self,
        timeout_ms: i32,
        mut each: impl FnMut(Source, EventSet) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut events = [EpollEvent::default(); BATCH];
        let count = match self.epoll.wait(timeout_ms, &mut events) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            result => result?,
        };
        for event in events.iter().take(count) {
            each(Source::decode(event.data()), event.event_set())?;
        }
        Ok(())
    }

    /// This poller as the device in `slot`, whose queues have these `kicks`, sees it.
    pub(crate) fn for_device<'a>(&'a self, slot: u16, kicks: &'a [EventFd]) -> DeviceEvents<'a> {
        DeviceEvents {
            poller: self,
            slot,
            kicks,
        }
    }
}

/// [`Poller::for_device`].
#[derive(Debug)]
pub(crate) struct DeviceEvents<'a> {
    poller: &'a Poller,
    slot: u16,
    kicks: &'a [EventFd],
}

impl DeviceEvents<'_> {
    fn control(
        &self,
        operation: ControlOperation,
        fd: BorrowedFd<'_>,
        interest: EventSet,
        token: u32,
    ) -> io::Result<()> {
        let source = Source::Device {
            slot: self.slot,
            token,
        };
        let event = EpollEvent::new(interest, source.encode());
        self.poller.epoll.ctl(operation, fd.as_raw_fd(), event)
    }
}

impl Events for DeviceEvents<'_> {
    fn watch(&mut self, fd: BorrowedFd<'_>, interest: EventSet, token: u32) -> io::Result<()> {
        self.control(ControlOperation::Add, fd, interest, token)
    }

    fn rewatch(&mut self, fd: BorrowedFd<'_>, interest: EventSet, token: u32) -> io::Result<()> {
        self.control(ControlOperation::Modify, fd, interest, token)
    }

    fn unwatch(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(ControlOperation::Delete, fd, EventSet::empty(), 0)
    }

    /// As if the guest had notified it: behind everything that is ready by now.
    fn come_again(&mut self, queue: u16) -> io::Result<()> {
        let kick = self.kicks.get(usize::from(queue));
        kick.map_or(Ok(()), |kick| kick.write(1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_source_survives_its_encoding(slot: u16, queue: u16, token: u32) {
            for source in [
                Source::Inbox,
                Source::Owner,
                Source::Kick { slot, queue },
                Source::Device { slot, token },
            ] {
                prop_assert_eq!(Source::decode(source.encode()), source);
            }
        }
    }
}
