//! What a virtio device is, apart from the transport it sits behind.
//!
//! Owns the seam: [`VirtioDevice`] below, the three things a device is given
//! ([`ActiveQueues`], [`Interrupt`], [`Events`]) and how it fails. Knows no
//! registers, no KVM and no threads. A device lives on one thread, the one with
//! the event loop; every method is called there. The same device serves
//! virtio-mmio in `caisson-vmm` and a vhost-user front end elsewhere.
//!
//! The states of a device are those of its slot, see the crate's `slots`: methods are
//! called in `Active` unless they state otherwise.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use virtio_queue::Queue;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::EventSet;

/// Why a device stopped serving its queues.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The driver violated the virtio protocol. Only this device stops, until the
    /// guest resets it.
    #[error("driver violated the virtio protocol: {0}")]
    Guest(String),
    /// A ring is not where or what it has to be: as `Guest`.
    #[error("a virtqueue is broken")]
    Queue(#[from] virtio_queue::Error),
    /// The host side of the device is gone: the machine can't go on.
    #[error("{part}")]
    Host {
        /// What is gone, in one line.
        part: &'static str,
        /// How that was noticed.
        #[source]
        source: io::Error,
    },
}

/// Notifies the guest of used buffers and changed configuration. Never blocks.
pub trait Interrupt: Send + Sync {
    /// Buffers of `queue` were used. The device has already asked
    /// `Queue::needs_notification`.
    fn queue_used(&self, queue: u16);
    /// The configuration space is different from what the guest last read.
    fn config_changed(&self);
}

/// The event loop, as one device sees it: descriptors to watch, level-triggered, and
/// further turns.
///
/// `token` is the device's own name for the descriptor and comes back in
/// [`VirtioDevice::ready`]; other devices' tokens never mix with it. A descriptor
/// has to be unwatched before it is closed.
pub trait Events {
    /// Starts to watch `fd`.
    fn watch(&mut self, fd: BorrowedFd<'_>, interest: EventSet, token: u32) -> io::Result<()>;
    /// Changes what is waited for on a watched `fd`.
    fn rewatch(&mut self, fd: BorrowedFd<'_>, interest: EventSet, token: u32) -> io::Result<()>;
    /// Stops watching `fd`.
    fn unwatch(&mut self, fd: BorrowedFd<'_>) -> io::Result<()>;
    /// Has [`VirtioDevice::queue_ready`] called for `queue` once more, after others had
    /// their turn.
    fn come_again(&mut self, queue: u16) -> io::Result<()>;
}

/// Everything a device works with between activation and reset.
pub struct ActiveQueues {
    /// The guest's memory. Whatever is read from it is hostile.
    pub mem: GuestMemoryMmap,
    /// One per entry of [`VirtioDevice::queue_sizes`], in order. A queue that the
    /// guest didn't set up is not `ready()` and stays untouched. `EVENT_IDX` is
    /// set already where it was negotiated.
    pub queues: Vec<Queue>,
    /// Feature bits both sides agreed on.
    pub features: u64,
    /// The way back to the guest.
    pub interrupt: Arc<dyn Interrupt>,
}

impl std::fmt::Debug for ActiveQueues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ActiveQueues")
            .field("queues", &self.queues)
            .field("features", &format_args!("{:#x}", self.features))
            .finish_non_exhaustive()
    }
}

/// A virtio device (virtio 1.3, section 2) without its transport.
pub trait VirtioDevice {
    /// Device type (virtio 1.3, section 5).
    fn device_id(&self) -> u32;

    /// Feature bits of this device type that are offered. The transport adds
    /// `VERSION_1` and `RING_EVENT_IDX`.
    fn features(&self) -> u64;

    /// Largest size of each queue, in entries; its length is the number of queues.
    fn queue_sizes(&self) -> &[u16];

    /// The whole configuration space, as the guest shall read it now.
    fn config(&self) -> &[u8];

    /// The guest wrote `bytes` at `offset` of the configuration space. Offset and
    /// length are hostile. Without writable fields it is ignored.
    fn write_config(&mut self, _offset: usize, _bytes: &[u8]) {}

    /// The guest set `DRIVER_OK`. Called in state `Inactive` only.
    fn activate(&mut self, active: ActiveQueues, events: &mut dyn Events) -> Result<(), Error>;

    /// The guest made buffers available in `queue`. Also called once for each ready
    /// queue right after activation; may come without any buffer. Ends after a bounded
    /// amount of work, whatever the guest does; the rest is for another turn
    /// ([`Events::come_again`]). The same goes for `ready`.
    fn queue_ready(&mut self, queue: u16, events: &mut dyn Events) -> Result<(), Error>;

    /// A watched descriptor is ready.
    fn ready(
        &mut self,
        _token: u32,
        _readiness: EventSet,
        _events: &mut dyn Events,
    ) -> Result<(), Error> {
        Ok(())
    }

    /// Back to `Inactive`: unwatch everything, touch guest memory no more. Called in
    /// any state.
    fn reset(&mut self, events: &mut dyn Events);

    /// Stops whoever else serves queues of the device, and keeps where they are to go on.
    /// Called in state `Active`, when no vCPU runs; nothing but `resume` or `reset` follows.
    /// A device whose queues are served by its own methods has nothing to do: they are not
    /// called while the machine is paused.
    fn pause(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Lets the queues that `pause` stopped go on where they were. The transport signals
    /// their kick descriptors once more after it.
    fn resume(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// True when another process, or the kernel, serves the queue and has its kick
    /// descriptor; `queue_ready` is then never called for it. Asked when the device
    /// is active.
    fn is_offloaded(&self, _queue: u16) -> bool {
        false
    }
}
