//! The devices of a machine, each in its slot, as the event loop drives them.
//!
//! Owns the devices and their state. The register files are the bus's; here is what
//! happens because of them.
//!
//! ```text
//!           plug             DRIVER_OK          protocol violation
//!   Empty ------> Inactive ------------> Active -----------------> NeedsReset
//!     ^              ^        reset         |         reset            |
//!     |              +----------------------+--------------------------+
//!     +--- unplug, from any
//! ```
//!
//! Two vCPUs can write one slot's registers, and what the later write asks may come
//! first. What belongs to an earlier epoch than the registers' or the device's is
//! dropped, so that the last word of the guest counts in any order.

use std::io::{self, Write as _};
use std::sync::Arc;

use virtio_queue::QueueT;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::EventFd;

use crate::bus::Bus;
use crate::eventfds::Eventfds;
use crate::poller::{Poller, Source};
use crate::virtio::device::{ActiveQueues, Error, Interrupt, VirtioDevice};
use crate::virtio::mmio::{Effect, Identity, MmioInterrupt, Setup};

/// One slot: what is wired to it for good, and the device in it.
pub(crate) struct Slot {
    device: Option<Box<dyn VirtioDevice>>,
    /// Eventfds that KVM signals when the guest notifies queue 0, 1, ...
    kicks: Vec<EventFd>,
    interrupt: Arc<MmioInterrupt>,
    state: SlotState,
    /// The device came while the machine ran, and may go again.
    plugged: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotState {
    Inactive,
    Active { epoch: u64 },
    NeedsReset { epoch: u64 },
}

impl SlotState {
    /// True if a reset that began `epoch` is meant for it.
    fn is_ended_by(self, epoch: u64) -> bool {
        match self {
            Self::Inactive => false,
            Self::Active { epoch: own } | Self::NeedsReset { epoch: own } => own < epoch,
        }
    }
}

impl Slot {
    /// A slot with `device` in it, or an empty one.
    pub(crate) fn new(
        device: Option<Box<dyn VirtioDevice>>,
        kicks: Vec<EventFd>,
        interrupt: Arc<MmioInterrupt>,
    ) -> Self {
        Self {
            device,
            kicks,
            interrupt,
            state: SlotState::Inactive,
            plugged: false,
        }
    }
}

/// All slots of a machine.
pub(crate) struct Slots {
    slots: Vec<Slot>,
    bus: Arc<Bus>,
    mem: GuestMemoryMmap,
}

impl Slots {
    pub(crate) fn new(slots: Vec<Slot>, bus: Arc<Bus>, mem: GuestMemoryMmap) -> Self {
        Self { slots, bus, mem }
    }

    /// Does what a register write of the guest asks of the device in `index`.
    pub(crate) fn apply(
        &mut self,
        index: usize,
        effect: Effect,
        poller: &Poller,
    ) -> Result<(), Error> {
        match effect {
            Effect::Activate(setup) => self.activate(index, setup, poller),
            Effect::Reset { epoch } => {
                self.reset(index, epoch, poller);
                Ok(())
            }
            Effect::Config { offset, bytes } => {
                self.write_config(index, offset, &bytes);
                Ok(())
            }
        }
    }

    /// The guest notified `queue`.
    pub(crate) fn kicked(&mut self, index: u16, queue: u16, poller: &Poller) -> Result<(), Error> {
        let Some((kicks, device)) = active(&mut self.slots, index) else {
            return Ok(());
        };
        let result = device.queue_ready(queue, &mut poller.for_device(index, kicks));
        self.contain(index, result, poller)
    }

    /// A descriptor that the device watches is ready.
    pub(crate) fn ready(
        &mut self,
        index: u16,
        token: u32,
        readiness: EventSet,
        poller: &Poller,
    ) -> Result<(), Error> {
        // Events of one batch may belong to a device that an earlier one reset.
        let Some((kicks, device)) = active(&mut self.slots, index) else {
            return Ok(());
        };
        let result = device.ready(token, readiness, &mut poller.for_device(index, kicks));
        self.contain(index, result, poller)
    }

    /// Stops back ends that serve queues beside this thread. No vCPU runs, and until
    /// `resume` neither `kicked` nor `ready` is called.
    pub(crate) fn pause(&mut self, poller: &Poller) -> Result<(), Error> {
        for index in 0..slot_number(self.slots.len()) {
            if let Some((_, device)) = active(&mut self.slots, index) {
                let result = device.pause();
                self.contain(index, result, poller)?;
            }
        }
        Ok(())
    }

    /// Lets them go on, with a notification of each queue: one may have been taken, but
    /// not served, when they were stopped.
    pub(crate) fn resume(&mut self, poller: &Poller) -> Result<(), Error> {
        for index in 0..slot_number(self.slots.len()) {
            let Some((kicks, device)) = active(&mut self.slots, index) else {
                continue;
            };
            let result = device.resume();
            let offloaded = (0..)
                .zip(kicks)
                .filter(|(queue, _)| device.is_offloaded(*queue));
            for (_, kick) in offloaded {
                // Fails only when the count is at its limit: it is readable then.
                kick.write(1).ok();
            }
            self.contain(index, result, poller)?;
        }
        Ok(())
    }

    /// The eventfds of the slot that the next device is put into; `None` without one.
    pub(crate) fn free_eventfds(&self) -> Option<io::Result<Eventfds>> {
        let slot = self.slots.get(self.bus.first_empty()?)?;
        let clone = || {
            let kicks: io::Result<_> = slot.kicks.iter().map(EventFd::try_clone).collect();
            Ok(Eventfds {
                kicks: kicks?,
                irqfd: slot.interrupt.line().try_clone()?,
            })
        };
        Some(clone())
    }

    /// Puts `device` into the first empty slot, whose index is returned; `None` if
    /// there is none with enough queues.
    pub(crate) fn plug(&mut self, device: Box<dyn VirtioDevice>) -> Option<usize> {
        let index = self.bus.first_empty()?;
        let slot = self.slots.get_mut(index)?;
        if slot.kicks.len() < device.queue_sizes().len() {
            return None;
        }
        self.bus.registers(index)?.attach(Identity::of(&*device));
        slot.device = Some(device);
        slot.plugged = true;
        Some(index)
    }

    /// Takes the device out of a slot that `plug` put there; false if it wasn't.
    pub(crate) fn unplug(&mut self, index: usize, poller: &Poller) -> bool {
        let Some(slot) = self.slots.get_mut(index).filter(|slot| slot.plugged) else {
            return false;
        };
        // A guest that still uses it finds an empty slot, as hardware that was pulled.
        stop(slot, slot_number(index), poller);
        slot.state = SlotState::Inactive;
        slot.device = None;
        slot.plugged = false;
        if let Some(mut registers) = self.bus.registers(index) {
            registers.attach(Identity::default());
        }
        true
    }

    fn activate(&mut self, index: usize, setup: Setup, poller: &Poller) -> Result<(), Error> {
        let present = self.bus.registers(index).map(|registers| registers.epoch());
        if present != Some(setup.epoch) {
            // The guest has reset it since.
            return Ok(());
        }
        let Some(slot) = self.slots.get_mut(index) else {
            return Ok(());
        };
        // The reset between an earlier activation and this one may still be to come.
        stop(slot, slot_number(index), poller);
        slot.state = SlotState::Inactive;
        let Some(device) = slot.device.as_mut() else {
            return Ok(());
        };
        slot.state = SlotState::Active { epoch: setup.epoch };
        let mut ready: Vec<_> = setup.queues.iter().map(QueueT::ready).collect();
        let valid = |queue: &virtio_queue::Queue| !queue.ready() || queue.is_valid(&self.mem);
        let number = slot_number(index);
        let result = if setup.queues.iter().all(valid) {
            let active = ActiveQueues {
                mem: self.mem.clone(),
                queues: setup.queues,
                features: setup.features,
                interrupt: Arc::clone(&slot.interrupt) as Arc<dyn Interrupt>,
            };
            device.activate(active, &mut poller.for_device(number, &slot.kicks))
        } else {
            Err(Error::Guest("a queue is outside of memory".to_owned()))
        };
        for (queue, ready) in (0..).zip(&mut ready) {
            *ready &= !device.is_offloaded(queue);
        }
        let started = result.is_ok();
        self.contain(number, result, poller)?;
        if started {
            self.start_queues(number, &ready, poller)?;
        }
        Ok(())
    }

    fn start_queues(&mut self, index: u16, ready: &[bool], poller: &Poller) -> Result<(), Error> {
        for (queue, _) in (0..).zip(ready).filter(|(_, ready)| **ready) {
            if let Some((kicks, _)) = active(&mut self.slots, index)
                && let Some(kick) = kicks.get(usize::from(queue))
            {
                poller
                    .watch_signals(kick, Source::Kick { slot: index, queue })
                    .map_err(|source| Error::Host {
                        part: "watch a queue",
                        source,
                    })?;
            }
            self.kicked(index, queue, poller)?;
        }
        Ok(())
    }

    fn reset(&mut self, index: usize, epoch: u64, poller: &Poller) {
        let slot = self.slots.get_mut(index);
        if let Some(slot) = slot.filter(|slot| slot.state.is_ended_by(epoch)) {
            stop(slot, slot_number(index), poller);
            slot.state = SlotState::Inactive;
        }
    }

    fn write_config(&mut self, index: usize, offset: usize, bytes: &[u8]) {
        let slot = self.slots.get_mut(index);
        let Some(device) = slot.and_then(|slot| slot.device.as_mut()) else {
            return;
        };
        device.write_config(offset, bytes);
        if let Some(mut registers) = self.bus.registers(index) {
            registers.show_config(device.config());
        }
    }

    /// A device whose driver violated the protocol stops and logs it; other errors are
    /// returned.
    fn contain(
        &mut self,
        index: u16,
        result: Result<(), Error>,
        poller: &Poller,
    ) -> Result<(), Error> {
        let error = match result {
            Err(error @ (Error::Guest(_) | Error::Queue(_))) => error,
            other => return other,
        };
        let Some(slot) = self.slots.get_mut(usize::from(index)) else {
            return Ok(());
        };
        // The log is the owner's pipe: if nobody reads it, nobody misses the line.
        writeln!(io::stderr(), "slot {index}: {error}").ok();
        let SlotState::Active { epoch } = slot.state else {
            return Ok(());
        };
        stop(slot, index, poller);
        slot.state = SlotState::NeedsReset { epoch };
        let registers = self.bus.registers(usize::from(index));
        if registers.is_some_and(|mut registers| registers.mark_needs_reset(epoch)) {
            slot.interrupt.config_changed();
        }
        Ok(())
    }
}

fn stop(slot: &mut Slot, index: u16, poller: &Poller) {
    let SlotState::Active { .. } = slot.state else {
        return;
    };
    if let Some(device) = slot.device.as_mut() {
        device.reset(&mut poller.for_device(index, &slot.kicks));
    }
    for kick in &slot.kicks {
        // Those of queues that were never started are not watched.
        poller.unwatch(kick).ok();
    }
}

/// Kicks and device of the slot, if the device is active.
fn active(slots: &mut [Slot], index: u16) -> Option<(&[EventFd], &mut dyn VirtioDevice)> {
    let slot = slots.get_mut(usize::from(index))?;
    match slot.state {
        SlotState::Active { .. } => Some((&slot.kicks, slot.device.as_deref_mut()?)),
        SlotState::Inactive | SlotState::NeedsReset { .. } => None,
    }
}

#[cfg(any(test, feature = "fuzz"))]
impl Slots {
    /// The epoch in which the device is active, if it is.
    pub(crate) fn active_epoch(&self, index: usize) -> Option<u64> {
        match self.slots.get(index)?.state {
            SlotState::Active { epoch } => Some(epoch),
            SlotState::Inactive | SlotState::NeedsReset { .. } => None,
        }
    }
}

fn slot_number(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}

#[cfg(test)]
#[path = "slots_test.rs"]
mod tests;
