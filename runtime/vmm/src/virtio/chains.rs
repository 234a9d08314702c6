//! Serving a queue: every chain the guest made available, one after the other.

use virtio_queue::{DescriptorChain, QueueOwnedT, QueueT};
use vm_memory::GuestMemoryMmap;

use super::device::{ActiveQueues, Error};

/// A request of the guest, not parsed yet.
pub(crate) type Chain<'a> = DescriptorChain<&'a GuestMemoryMmap>;

impl ActiveQueues {
    /// Calls `answer` for each available chain of `queue`; it returns how many bytes it
    /// wrote into the chain. Then tells the guest, if it wants to be told.
    pub(crate) fn serve(
        &mut self,
        queue: u16,
        mut answer: impl FnMut(&GuestMemoryMmap, Chain<'_>) -> Result<u32, Error>,
    ) -> Result<(), Error> {
        let mem = &self.mem;
        let Some(ring) = self.queues.get_mut(usize::from(queue)) else {
            return Ok(());
        };
        if !ring.ready() {
            return Ok(());
        }
        loop {
            ring.disable_notification(mem)?;
            while let Some(chain) = ring.iter(mem)?.next() {
                let head = chain.head_index();
                let written = answer(mem, chain)?;
                ring.add_used(mem, head, written)?;
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
