//! Turns: what a device does for one of its queues before others have theirs.
//!
//! Owns how much that is. A guest can refill a ring as fast as it is served, and all
//! devices share one thread with the owner's requests; so a device stops after a turn
//! and asks the event loop to come again.

use virtio_queue::QueueT;
use vm_memory::GuestMemoryMmap;

use super::chain::{Chain, IndirectTables};
use super::device::{ActiveQueues, Error, Events};

/// Most chains of a turn.
pub(crate) const TURN_CHAINS: usize = 128;
/// Bytes of a turn; the chain that reaches it is the last.
pub(crate) const TURN_BYTES: usize = 8 << 20;

/// What is left of a turn.
#[derive(Debug)]
pub(crate) struct Turn {
    chains: usize,
    bytes: usize,
}

impl Turn {
    /// All of it.
    pub(crate) const fn new() -> Self {
        Self {
            chains: TURN_CHAINS,
            bytes: TURN_BYTES,
        }
    }

    /// Nothing is left.
    pub(crate) const fn is_over(&self) -> bool {
        self.chains == 0 || self.bytes == 0
    }

    /// A chain was taken.
    pub(crate) const fn spend_chain(&mut self) {
        self.chains = self.chains.saturating_sub(1);
    }

    /// So many bytes were moved, or as much time was spent as that takes.
    pub(crate) const fn spend(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Something was done that may take as long as a turn.
    pub(crate) const fn end(&mut self) {
        self.bytes = 0;
    }
}

impl ActiveQueues {
    /// Calls `answer` for each available chain of `queue`, for a turn; it returns how
    /// many bytes it wrote into the chain. Then notifies the guest, if it asked for that.
    pub(crate) fn serve(
        &mut self,
        queue: u16,
        events: &mut dyn Events,
        mut answer: impl FnMut(&GuestMemoryMmap, &Chain<'_>, &mut Turn) -> Result<u32, Error>,
    ) -> Result<(), Error> {
        let mem = &self.mem;
        let Some(ring) = self.queues.get_mut(usize::from(queue)) else {
            return Ok(());
        };
        if !ring.ready() {
            return Ok(());
        }
        let mut turn = Turn::new();
        loop {
            ring.disable_notification(mem)?;
            while !turn.is_over()
                && let Some(chain) = Chain::next_of(ring, mem, IndirectTables::Refused)?
            {
                turn.spend_chain();
                let written = answer(mem, &chain, &mut turn)?;
                ring.add_used(mem, chain.head_index(), written)?;
            }
            if turn.is_over() {
                events.come_again(queue).map_err(come_again)?;
                break;
            }
            if !ring.enable_notification(mem)? {
                break;
            }
        }
        if ring.needs_notification(mem)? {
            self.interrupt.queue_used(queue);
        }
        Ok(())
    }
}

/// The error of a device that could not ask for another turn.
pub(crate) fn come_again(source: std::io::Error) -> Error {
    Error::Host {
        part: "ask for another turn",
        source,
    }
}

#[cfg(test)]
#[path = "turn_test.rs"]
mod tests;
