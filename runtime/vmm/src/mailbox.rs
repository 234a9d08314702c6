//! From the vCPU threads to the event loop.
//!
//! Bounded: a guest that writes faster than the loop works waits.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::control::Exit;
use crate::virtio::mmio::Effect;

/// Messages that wait at most.
pub(crate) const CAPACITY: usize = 16;

/// What a vCPU sends.
#[derive(Debug)]
pub(crate) enum Message {
    /// A register write has consequences for the device in `slot`.
    Device {
        slot: usize,
        effect: Effect,
        /// Dropped when that is done.
        done: Option<SyncSender<()>>,
    },
    /// The vCPU has left KVM, and waits at the gate that was closed for this round.
    Parked { round: u64 },
    /// The machine has ended.
    Ended(Exit),
}

/// A vCPU's end.
#[derive(Debug, Clone)]
pub(crate) struct Mailbox {
    sender: SyncSender<Message>,
    wake: Arc<EventFd>,
}

/// The loop's end.
#[derive(Debug)]
pub(crate) struct Inbox {
    receiver: Receiver<Message>,
    wake: Arc<EventFd>,
}

/// Both ends.
pub(crate) fn mailbox() -> io::Result<(Mailbox, Inbox)> {
    let (sender, receiver) = sync_channel(CAPACITY);
    let wake = Arc::new(EventFd::new(EFD_NONBLOCK)?);
    let mailbox = Mailbox {
        sender,
        wake: Arc::clone(&wake),
    };
    Ok((mailbox, Inbox { receiver, wake }))
}

impl Mailbox {
    /// Passes on the effect of a register write. Returns after it for a reset: the
    /// driver takes its memory back then.
    pub(crate) fn apply(&self, slot: usize, effect: Effect) {
        let waits = matches!(effect, Effect::Reset { .. });
        let (done, finished) = sync_channel(0);
        self.send(Message::Device {
            slot,
            effect,
            done: waits.then_some(done),
        });
        if waits {
            // Nothing is ever sent: this ends when the other end is dropped.
            finished.recv().ok();
        }
    }

    /// Acknowledges a request to park; the caller waits at the gate next.
    pub(crate) fn parked(&self, round: u64) {
        self.send(Message::Parked { round });
    }

    /// Sends the end of the machine.
    pub(crate) fn end(&self, exit: Exit) {
        self.send(Message::Ended(exit));
    }

    fn send(&self, message: Message) {
        // Without a receiver the process is about to end.
        if self.sender.send(message).is_ok() {
            self.wake.write(1).ok();
        }
    }
}

impl Inbox {
    /// Readable when there are messages.
    pub(crate) fn wake(&self) -> &EventFd {
        &self.wake
    }

    /// The next message, if there is one.
    pub(crate) fn next(&self) -> Option<Message> {
        self.receiver.try_recv().ok()
    }

    /// The next message; `None` if none has come by `deadline`.
    pub(crate) fn next_before(&self, deadline: Instant) -> Option<Message> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.receiver.recv_timeout(left).ok()
    }
}
