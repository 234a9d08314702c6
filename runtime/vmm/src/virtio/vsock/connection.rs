//! One connection as a state machine: what is sent to the guest next, and when it ends.
//!
//! Owns flow control, half close both ways and the time limit of a close; touches
//! no socket and no clock. [`super::link`] joins it with the host's end.
//!
//! Each end has two directions that close one by one and never open again:
//!
//! ```text
//! guest Shutdown(both), all forwarded        -> Reset to the guest, over
//! host closed both, nothing was ever sent    -> Reset to the guest, over
//! host closed both -> Shutdown(both) -> guest Reset: over
//!                                    -> KILL_TIMEOUT: Reset to the guest, over
//! guest Reset, all forwarded                 -> over
//! ```

use std::time::{Duration, Instant};

use super::credit::Credit;
use super::packet::{Header, Operation, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};

/// How long a guest may take to confirm that both ends are closed.
pub const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Lives,
    /// It ends, with a `Reset` to the guest.
    Reset,
    /// It ends, and the guest knows.
    Over,
}

/// A packet without payload that is due to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notice {
    /// What for.
    pub operation: Operation,
    /// Header flags.
    pub flags: u32,
}

/// What an end still does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Directions {
    sends: bool,
    receives: bool,
}

impl Directions {
    const OPEN: Self = Self {
        sends: true,
        receives: true,
    };

    fn is_closed(self) -> bool {
        !self.sends && !self.receives
    }

    fn shutdown_flags(self) -> u32 {
        let receive = if self.receives { 0 } else { SHUTDOWN_RECEIVE };
        let send = if self.sends { 0 } else { SHUTDOWN_SEND };
        receive | send
    }
}

/// A connection that the guest asked for and the owner was handed.
#[derive(Debug)]
pub struct Connection {
    /// Flow control.
    pub credit: Credit,
    guest: Directions,
    host: Directions,
    /// `host` as it was sent to the guest.
    announced: Directions,
    /// The guest has forgotten the connection: no packet is due to it any more.
    is_forgotten: bool,
    has_sent: bool,
    response_due: bool,
    update_due: bool,
    credit_requested: bool,
    deadline: Option<Instant>,
}

impl Connection {
    /// The connection that a `Request` asked for.
    #[must_use]
    pub fn requested(header: &Header) -> Self {
        let mut credit = Credit::default();
        credit.guest_announces(header.buf_alloc, header.fwd_cnt);
        Self {
            credit,
            guest: Directions::OPEN,
            host: Directions::OPEN,
            announced: Directions::OPEN,
            is_forgotten: false,
            has_sent: false,
            response_due: true,
            update_due: false,
            credit_requested: false,
            deadline: None,
        }
    }

    /// A packet of the guest has the state of its buffer, as each does.
    pub fn guest_announces(&mut self, header: &Header) {
        self.credit
            .guest_announces(header.buf_alloc, header.fwd_cnt);
        if self.credit.sendable() > 0 {
            self.credit_requested = false;
        }
    }

    /// The guest closed directions, by the flags of a `Shutdown`.
    pub fn guest_shut(&mut self, flags: u32) {
        self.guest.sends &= flags & SHUTDOWN_SEND == 0;
        self.guest.receives &= flags & SHUTDOWN_RECEIVE == 0;
    }

    /// The guest sent a `Reset`.
    pub fn guest_reset(&mut self) {
        self.guest = Directions {
            sends: false,
            receives: false,
        };
        self.is_forgotten = true;
    }

    /// The guest wants to know the state of our buffer.
    pub fn guest_asks(&mut self) {
        self.update_due = true;
    }

    /// All bytes of the host were read, and no more will come.
    pub fn host_ended(&mut self) {
        self.host.sends = false;
    }

    /// Nobody reads what the guest sends.
    pub fn host_stopped_reading(&mut self) {
        self.host.receives = false;
    }

    /// The guest may send payload.
    #[must_use]
    pub fn guest_sends(&self) -> bool {
        self.guest.sends
    }

    /// The guest wants payload.
    #[must_use]
    pub fn guest_receives(&self) -> bool {
        self.guest.receives
    }

    /// Payload of the guest has a reader.
    #[must_use]
    pub fn host_receives(&self) -> bool {
        self.host.receives
    }

    /// Bytes of payload that may go to the guest now.
    #[must_use]
    pub fn sendable(&self) -> u32 {
        let is_open = self.guest.receives && self.host.sends && !self.response_due;
        if is_open { self.credit.sendable() } else { 0 }
    }

    /// `len` bytes of payload are on their way to the guest.
    pub fn sent(&mut self, len: u32) {
        self.has_sent = true;
        self.credit.sent(len);
    }

    /// When the connection is ended by force, if it is being closed.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// A [`Notice`] is due.
    #[must_use]
    pub fn has_notice(&self, is_host_readable: bool) -> bool {
        self.due_notice(is_host_readable).is_some()
    }

    /// The next packet without payload, which is sent by this call.
    pub fn notice(&mut self, is_host_readable: bool, now: Instant) -> Option<Notice> {
        let operation = self.due_notice(is_host_readable)?;
        let flags = match operation {
            Operation::Shutdown => self.shut(now),
            Operation::Response => {
                self.response_due = false;
                0
            }
            Operation::CreditRequest => {
                self.credit_requested = true;
                0
            }
            _ => 0,
        };
        Some(Notice { operation, flags })
    }

    /// `buf_alloc` and `fwd_cnt` of a packet that is being sent.
    pub fn announce(&mut self) -> (u32, u32) {
        self.update_due = false;
        self.credit.announce()
    }

    /// Whether the connection goes on. `is_flushed`: no byte of the guest waits for
    /// the host.
    #[must_use]
    pub fn fate(&self, is_flushed: bool, now: Instant) -> Fate {
        let is_delivered = is_flushed || !self.host.receives;
        if self.is_forgotten {
            return if is_delivered {
                Fate::Over
            } else {
                Fate::Lives
            };
        }
        let is_late = self.deadline.is_some_and(|deadline| deadline <= now);
        if self.is_refused() || is_late || (self.guest.is_closed() && is_delivered) {
            return Fate::Reset;
        }
        Fate::Lives
    }

    /// The owner closed its end before anything came from it.
    fn is_refused(&self) -> bool {
        self.host.is_closed() && !self.has_sent
    }

    fn due_notice(&self, is_host_readable: bool) -> Option<Operation> {
        if self.is_forgotten || self.guest.is_closed() || self.is_refused() {
            return None;
        }
        if self.response_due {
            return Some(Operation::Response);
        }
        if self.announced != self.host {
            return Some(Operation::Shutdown);
        }
        if self.guest.sends && (self.update_due || self.credit.is_update_due()) {
            return Some(Operation::CreditUpdate);
        }
        let is_stalled = is_host_readable
            && self.guest.receives
            && self.host.sends
            && self.credit.sendable() == 0
            && !self.credit_requested;
        is_stalled.then_some(Operation::CreditRequest)
    }

    fn shut(&mut self, now: Instant) -> u32 {
        self.announced = self.host;
        if self.host.is_closed() {
            self.deadline = Some(now + KILL_TIMEOUT);
        }
        self.host.shutdown_flags()
    }
}

#[cfg(test)]
#[path = "connection_test.rs"]
mod tests;
