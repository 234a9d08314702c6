//! The eventfds between KVM and one slot: ioeventfds for notifications, an irqfd for the
//! interrupt.

use std::io;

use kvm_ioctls::{IoEventAddress, VmFd};
use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_INT_VRING, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_QUEUE_NOTIFY,
};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::arch::{SLOT_LEN, SLOTS_BASE, interrupt_of};

/// Why a slot can't be connected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No eventfd.
    #[error("make an eventfd")]
    EventFd(#[from] io::Error),
    /// KVM refuses it.
    #[error("connect an eventfd to the guest")]
    Connect(#[from] kvm_ioctls::Error),
}

/// Those of one slot.
#[derive(Debug)]
pub(crate) struct Eventfds {
    /// ioeventfds: KVM signals the n-th when the guest notifies queue n.
    pub(crate) kicks: Vec<EventFd>,
    /// Signalling it interrupts the guest.
    pub(crate) irqfd: EventFd,
}

impl Eventfds {
    /// Connects slot number `slot`, for up to `queues` queues.
    ///
    /// Acknowledging "used buffers" goes to `ignored`: there is nothing to do for it
    /// (see `MmioInterrupt`), and so the guest doesn't have to leave the kernel.
    pub(crate) fn connect(
        vm: &VmFd,
        slot: usize,
        queues: usize,
        ignored: &EventFd,
    ) -> Result<Self, Error> {
        let base = SLOTS_BASE + SLOT_LEN * slot as u64;
        let notify = IoEventAddress::Mmio(base + u64::from(VIRTIO_MMIO_QUEUE_NOTIFY));
        let mut kicks = Vec::with_capacity(queues);
        for queue in (0_u32..).take(queues) {
            let kick = EventFd::new(EFD_NONBLOCK)?;
            vm.register_ioevent(&kick, &notify, queue)?;
            kicks.push(kick);
        }
        let acknowledge = IoEventAddress::Mmio(base + u64::from(VIRTIO_MMIO_INTERRUPT_ACK));
        vm.register_ioevent(ignored, &acknowledge, VIRTIO_MMIO_INT_VRING)?;
        let irqfd = EventFd::new(EFD_NONBLOCK)?;
        vm.register_irqfd(&irqfd, interrupt_of(slot))?;
        Ok(Self { kicks, irqfd })
    }

    /// The same eventfds once more.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        let kicks: io::Result<_> = self.kicks.iter().map(EventFd::try_clone).collect();
        Ok(Self {
            kicks: kicks?,
            irqfd: self.irqfd.try_clone()?,
        })
    }
}
