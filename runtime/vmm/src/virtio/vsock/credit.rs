//! Flow control of one connection (virtio 1.3, 5.10.6.3): who may send how much.
//!
//! Owns the counters of both directions; moves no bytes. All counters run modulo
//! 2^32. What the guest announces of its own buffer is believed: a lie only stalls or
//! floods the guest itself.

use std::num::Wrapping;

/// Bytes the device holds for a guest whose host end doesn't read.
pub const BUFFER_LEN: u32 = 128 * 1024;

/// The guest sent more than it was allowed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overrun;

/// Counters of one connection.
#[derive(Debug, Clone, Default)]
pub struct Credit {
    guest_buffer_len: u32,
    guest_taken: Wrapping<u32>,
    sent: Wrapping<u32>,
    received: Wrapping<u32>,
    forwarded: Wrapping<u32>,
    announced: Wrapping<u32>,
}

impl Credit {
    /// Takes over the state of the guest's buffer, as each of its packets has it.
    pub fn guest_announces(&mut self, buf_alloc: u32, fwd_cnt: u32) {
        self.guest_buffer_len = buf_alloc;
        self.guest_taken = Wrapping(fwd_cnt);
    }

    /// Bytes that may be sent to the guest now.
    #[must_use]
    pub fn sendable(&self) -> u32 {
        let in_flight = self.sent - self.guest_taken;
        self.guest_buffer_len.saturating_sub(in_flight.0)
    }

    /// `len` bytes went to the guest; no more than `sendable`.
    pub fn sent(&mut self, len: u32) {
        self.sent += len;
    }

    /// `len` bytes came from the guest.
    pub fn received(&mut self, len: u32) -> Result<(), Overrun> {
        let free = BUFFER_LEN - self.held();
        if len > free {
            return Err(Overrun);
        }
        self.received += len;
        Ok(())
    }

    /// `len` of the received bytes left for the host, or were dropped for good.
    pub fn forwarded(&mut self, len: u32) {
        debug_assert!(len <= self.held(), "more forwarded than received");
        self.forwarded += len;
    }

    /// All received bytes were dropped for good.
    pub fn forwarded_all(&mut self) {
        self.forwarded = self.received;
    }

    /// `buf_alloc` and `fwd_cnt` for a packet that is about to go to the guest.
    pub fn announce(&mut self) -> (u32, u32) {
        self.announced = self.forwarded;
        (BUFFER_LEN, self.forwarded.0)
    }

    /// The guest knows of so little free room that more has to be announced.
    ///
    /// Half the buffer: a guest that fills it always gets an update once it is
    /// drained, and a steady flow costs one update in `BUFFER_LEN / 2` bytes.
    #[must_use]
    pub fn is_update_due(&self) -> bool {
        (self.forwarded - self.announced).0 >= BUFFER_LEN / 2
    }

    fn held(&self) -> u32 {
        (self.received - self.forwarded).0
    }
}

#[cfg(test)]
#[path = "credit_test.rs"]
mod tests;
