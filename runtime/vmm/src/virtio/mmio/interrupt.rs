//! The way back: a slot's interrupt line and the two registers behind it.

use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_CONFIG_GENERATION, VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INTERRUPT_STATUS,
};
use vmm_sys_util::eventfd::EventFd;

use super::RegisterPage;
use crate::virtio::device::Interrupt;

/// Raises the edge-triggered line of one slot.
///
/// The status register always shows "used buffers": a back end in another process
/// raises the same line and can't set it, and a driver that looks at its queues in
/// vain loses nothing.
#[derive(Debug)]
pub(crate) struct MmioInterrupt {
    line: EventFd,
    page: RegisterPage,
}

impl MmioInterrupt {
    /// `line` is bound to the slot's interrupt in KVM.
    pub(crate) fn new(line: EventFd, page: RegisterPage) -> Self {
        Self { line, page }
    }

    /// For whoever else raises it.
    pub(crate) fn line(&self) -> &EventFd {
        &self.line
    }

    fn raise(&self) {
        // Fails only when the count is at its limit: then the line is raised already.
        self.line.write(1).ok();
    }
}

impl Interrupt for MmioInterrupt {
    fn queue_used(&self, _queue: u16) {
        self.raise();
    }

    fn config_changed(&self) {
        self.page.increment(VIRTIO_MMIO_CONFIG_GENERATION);
        self.page
            .set_bits(VIRTIO_MMIO_INTERRUPT_STATUS, VIRTIO_MMIO_INT_CONFIG);
        self.raise();
    }
}
