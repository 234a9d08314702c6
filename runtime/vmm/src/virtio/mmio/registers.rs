//! What the guest writes: the register file of one slot, as a state machine.
//!
//! Pure but for the page it keeps up to date; whatever has to happen outside is
//! returned as an [`Effect`]. Offsets, lengths and values come from the guest and
//! may be anything: what makes no sense is ignored, as hardware would.
//!
//! ```text
//! reset -> ACKNOWLEDGE -> DRIVER -> FEATURES_OK -> DRIVER_OK   (writing 0: reset)
//!          bits are only ever added; a step needs the one before
//! ```

use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE as ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER as DRIVER,
    VIRTIO_CONFIG_S_DRIVER_OK as DRIVER_OK, VIRTIO_CONFIG_S_FAILED as FAILED,
    VIRTIO_CONFIG_S_FEATURES_OK as FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET as NEEDS_RESET,
    VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_mmio::*;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::{Queue, QueueT};

use super::RegisterPage;
use crate::virtio::device::VirtioDevice;

/// "virt", little endian.
const MAGIC: u32 = 0x7472_6976;
const VERSION: u32 = 2;
/// What the transport itself can do.
const TRANSPORT_FEATURES: u64 = 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX;
/// The status bits in the order in which a driver sets them.
const STEPS: [u32; 4] = [ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK];

/// The face of a device in its slot. An empty slot has device id 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Device type (virtio 1.3, section 5); 0 = nothing here.
    pub(crate) device_id: u32,
    /// Everything offered, the transport's features included.
    pub(crate) features: u64,
    /// Largest size of each queue.
    pub(crate) queue_sizes: Vec<u16>,
    /// Configuration space.
    pub(crate) config: Vec<u8>,
}

impl Identity {
    /// The face of `device`.
    pub(crate) fn of(device: &dyn VirtioDevice) -> Self {
        Self {
            device_id: device.device_id(),
            features: device.features() | TRANSPORT_FEATURES,
            queue_sizes: device.queue_sizes().to_vec(),
            config: device.config().to_vec(),
        }
    }
}

/// What the driver has set up by the time it sets `DRIVER_OK`.
#[derive(Debug)]
pub(crate) struct Setup {
    /// One per queue; those not set up are not `ready()`.
    pub(crate) queues: Vec<Queue>,
    /// Features both sides agreed on.
    pub(crate) features: u64,
    /// Which activation of the slot this is, see [`Registers::epoch`].
    pub(crate) epoch: u64,
}

/// What a write asks for beyond the register file. Effects of several vCPUs may be
/// applied in another order than they were written: epochs show which is late.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Start the device.
    Activate(Setup),
    /// Stop the device; the guest must not go on before that is done.
    Reset {
        /// The epoch that began with it.
        epoch: u64,
    },
    /// The guest wrote into the configuration space.
    Config {
        /// From the start of the space.
        offset: usize,
        /// What it wrote.
        bytes: Vec<u8>,
    },
}

/// The register file of one slot.
#[derive(Debug)]
pub(crate) struct Registers {
    page: RegisterPage,
    identity: Identity,
    driver: DriverState,
    queues: Vec<Queue>,
    epoch: u64,
}

/// What the driver has written since the last reset, apart from its queues: plain data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct DriverState {
    status: u32,
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: u64,
    queue_sel: u32,
}

impl Registers {
    /// A slot with `identity` in it.
    pub(crate) fn new(page: RegisterPage, identity: Identity) -> Self {
        let mut registers = Self {
            page,
            identity: Identity::default(),
            driver: DriverState::default(),
            queues: Vec::new(),
            epoch: 0,
        };
        registers.attach(identity);
        registers
    }

    /// Attaches a device, in reset state; that of an empty slot takes it away.
    pub(crate) fn attach(&mut self, identity: Identity) {
        self.identity = identity;
        self.reset();
        let page = &self.page;
        page.store_bytes(VIRTIO_MMIO_CONFIG, &self.identity.config);
        page.store(VIRTIO_MMIO_MAGIC_VALUE, MAGIC);
        page.store(VIRTIO_MMIO_VERSION, VERSION);
        page.store(VIRTIO_MMIO_INTERRUPT_STATUS, VIRTIO_MMIO_INT_VRING);
        // A shared memory region that does not exist has length -1 (4.2.2.1).
        for register in [
            VIRTIO_MMIO_SHM_LEN_LOW,
            VIRTIO_MMIO_SHM_LEN_HIGH,
            VIRTIO_MMIO_SHM_BASE_LOW,
            VIRTIO_MMIO_SHM_BASE_HIGH,
        ] {
            page.store(register, u32::MAX);
        }
        // Last: from here on the slot is no longer empty.
        page.store(VIRTIO_MMIO_DEVICE_ID, self.identity.device_id);
    }

    /// True while no device is in the slot.
    pub(crate) fn is_empty(&self) -> bool {
        self.identity.device_id == 0
    }

    /// Counts resets and activations: an activation of an earlier epoch has been reset
    /// since, whether or not that was applied yet.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Shows a changed configuration space.
    pub(crate) fn show_config(&mut self, config: &[u8]) {
        if self.identity.config != config {
            self.identity.config = config.to_vec();
            self.page.increment(VIRTIO_MMIO_CONFIG_GENERATION);
            self.page.store_bytes(VIRTIO_MMIO_CONFIG, config);
        }
    }

    /// Marks the device of activation `epoch` as broken until the next reset. False if
    /// the guest has reset it since.
    pub(crate) fn mark_needs_reset(&mut self, epoch: u64) -> bool {
        let current = epoch == self.epoch && self.driver.status & DRIVER_OK != 0;
        if current {
            self.driver.status |= NEEDS_RESET;
            self.show();
        }
        current
    }

    /// The guest wrote `bytes` at `offset` of the slot.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> Option<Effect> {
        let offset = u32::try_from(offset).ok()?;
        if self.is_empty() {
            return None;
        }
        if let Some(in_config) = offset.checked_sub(VIRTIO_MMIO_CONFIG) {
            return self.write_config(in_config, bytes);
        }
        let value = u32::from_le_bytes(bytes.try_into().ok()?);
        if offset == VIRTIO_MMIO_STATUS {
            return self.write_status(value);
        }
        self.write_register(offset, value);
        self.show();
        None
    }

    fn write_register(&mut self, offset: u32, value: u32) {
        match offset {
            VIRTIO_MMIO_DEVICE_FEATURES_SEL => self.driver.device_features_sel = value,
            VIRTIO_MMIO_DRIVER_FEATURES_SEL => self.driver.driver_features_sel = value,
            VIRTIO_MMIO_DRIVER_FEATURES => self.write_driver_features(value),
            VIRTIO_MMIO_QUEUE_SEL => self.driver.queue_sel = value,
            VIRTIO_MMIO_INTERRUPT_ACK => {
                let acknowledged = value & VIRTIO_MMIO_INT_CONFIG;
                self.page
                    .clear_bits(VIRTIO_MMIO_INTERRUPT_STATUS, acknowledged);
            }
            _ => self.write_queue(offset, value),
        }
    }

    fn write_queue(&mut self, offset: u32, value: u32) {
        // Queues are set up between FEATURES_OK and DRIVER_OK (3.1.1).
        if self.driver.status & (FEATURES_OK | DRIVER_OK | FAILED) != FEATURES_OK {
            return;
        }
        let Some(queue) = selected(&mut self.queues, self.driver.queue_sel) else {
            return;
        };
        match offset {
            VIRTIO_MMIO_QUEUE_NUM => queue.set_size(u16::try_from(value).unwrap_or(0)),
            VIRTIO_MMIO_QUEUE_READY => queue.set_ready(value == 1),
            VIRTIO_MMIO_QUEUE_DESC_LOW => queue.set_desc_table_address(Some(value), None),
            VIRTIO_MMIO_QUEUE_DESC_HIGH => queue.set_desc_table_address(None, Some(value)),
            VIRTIO_MMIO_QUEUE_AVAIL_LOW => queue.set_avail_ring_address(Some(value), None),
            VIRTIO_MMIO_QUEUE_AVAIL_HIGH => queue.set_avail_ring_address(None, Some(value)),
            VIRTIO_MMIO_QUEUE_USED_LOW => queue.set_used_ring_address(Some(value), None),
            VIRTIO_MMIO_QUEUE_USED_HIGH => queue.set_used_ring_address(None, Some(value)),
            _ => {}
        }
    }

    fn write_driver_features(&mut self, value: u32) {
        if self.driver.status & (DRIVER | FEATURES_OK) != DRIVER {
            return;
        }
        let (low, high) = (
            self.driver.driver_features & 0xffff_ffff,
            self.driver.driver_features >> 32,
        );
        let value = u64::from(value);
        self.driver.driver_features = match self.driver.driver_features_sel {
            0 => high << 32 | value,
            1 => value << 32 | low,
            _ => self.driver.driver_features,
        };
    }

    fn write_config(&mut self, offset: u32, bytes: &[u8]) -> Option<Effect> {
        (self.driver.status & DRIVER != 0).then(|| Effect::Config {
            offset: offset as usize,
            bytes: bytes.to_vec(),
        })
    }

    fn write_status(&mut self, value: u32) -> Option<Effect> {
        if value == 0 {
            let was_active = self.driver.status & DRIVER_OK != 0;
            self.reset();
            let epoch = self.epoch;
            return was_active.then_some(Effect::Reset { epoch });
        }
        let before = self.driver.status;
        self.driver.status = self.next_status(value);
        self.show();
        let started = self.driver.status & DRIVER_OK != 0 && before & DRIVER_OK == 0;
        started.then(|| self.start())
    }

    /// The status after the driver wrote `value`: the bits it had, those it added in
    /// the right order, and `FEATURES_OK` only if the features can be had.
    fn next_status(&self, value: u32) -> u32 {
        let mut status = self.driver.status | value & FAILED;
        if self.driver.status & FAILED != 0 {
            return status;
        }
        for step in STEPS {
            let refused = step == FEATURES_OK && !self.features_agree();
            if (status | value) & step == 0 || (status & step == 0 && refused) {
                break;
            }
            status |= step;
        }
        status
    }

    fn features_agree(&self) -> bool {
        let required = 1 << VIRTIO_F_VERSION_1;
        self.driver.driver_features & !self.identity.features == 0
            && self.driver.driver_features & required == required
    }

    fn start(&mut self) -> Effect {
        self.epoch += 1;
        let event_idx = self.driver.driver_features & (1 << VIRTIO_RING_F_EVENT_IDX) != 0;
        for queue in &mut self.queues {
            queue.set_event_idx(event_idx);
        }
        let states = self.queues.iter().map(Queue::state);
        Effect::Activate(Setup {
            queues: states
                .filter_map(|state| Queue::try_from(state).ok())
                .collect(),
            features: self.driver.driver_features,
            epoch: self.epoch,
        })
    }

    fn reset(&mut self) {
        self.epoch += 1;
        self.driver = DriverState::default();
        self.queues = new_queues(&self.identity.queue_sizes);
        self.page
            .clear_bits(VIRTIO_MMIO_INTERRUPT_STATUS, VIRTIO_MMIO_INT_CONFIG);
        self.show();
    }

    /// Brings the readable registers up to date.
    fn show(&mut self) {
        let queue = selected(&mut self.queues, self.driver.queue_sel);
        let (max, ready) = queue.map_or((0, 0), |queue| (queue.max_size(), queue.ready().into()));
        let features = match self.driver.device_features_sel {
            0 => self.identity.features & 0xffff_ffff,
            1 => self.identity.features >> 32,
            _ => 0,
        };
        let page = &self.page;
        page.store(VIRTIO_MMIO_QUEUE_NUM_MAX, max.into());
        page.store(VIRTIO_MMIO_QUEUE_READY, ready);
        page.store(
            VIRTIO_MMIO_DEVICE_FEATURES,
            u32::try_from(features).unwrap_or(0),
        );
        page.store(VIRTIO_MMIO_STATUS, self.driver.status);
    }
}

fn selected(queues: &mut [Queue], index: u32) -> Option<&mut Queue> {
    queues.get_mut(usize::try_from(index).ok()?)
}

/// Sizes that are no power of two are a mistake in the device; such a queue is left
/// out, and the driver finds it missing.
fn new_queues(sizes: &[u16]) -> Vec<Queue> {
    sizes
        .iter()
        .filter_map(|size| Queue::new(*size).ok())
        .collect()
}

#[cfg(test)]
#[path = "registers_test.rs"]
mod tests;
