//! From a machine's device specs to its devices, each wired into a slot.
//!
//! Slots are filled in the order of [`Devices`]; nothing else decides which device has
//! which address and interrupt.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::bus::Bus;
use crate::eventfds::{self, Eventfds};
use crate::slots::Slot;
use crate::spec::{DescriptorNumber, Devices, queue_pairs};
use crate::sys::{Inherited, TakeError};
use crate::virtio::balloon::Balloon;
use crate::virtio::block::{self, Access, Block};
use crate::virtio::console::Console;
use crate::virtio::device::VirtioDevice;
use crate::virtio::fs::{self, Fs};
use crate::virtio::mmio::{Identity, MmioInterrupt, RegisterWindow, Registers};
use crate::virtio::rng::Rng;
use crate::virtio::vsock::device::Vsock;

/// Queues a device that is plugged in later can have: pairs of a network interface,
/// and, with several, one for commands.
fn placeholder_queues(vcpus: u8) -> usize {
    match queue_pairs(vcpus) {
        1 => 2,
        pairs => usize::from(pairs) * 2 + 1,
    }
}

/// Why a device can't be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Its descriptor is wrong.
    #[error("take a device's descriptor")]
    Descriptor(#[from] TakeError),
    /// It can't be connected to the guest.
    #[error("connect a device")]
    Eventfds(#[from] eventfds::Error),
    /// It can't be set up.
    #[error("set up the {device}")]
    Device {
        /// Which device.
        device: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file server can't be used.
    #[error("set up the shared directories")]
    Fs(#[from] fs::ConnectError),
    /// A disk can't be used.
    #[error("set up a disk")]
    Block(#[from] block::OpenError),
}

/// Slots under construction.
pub(crate) struct Assembly<'a> {
    vm: &'a VmFd,
    window: &'a RegisterWindow,
    inherited: &'a mut Inherited,
    ignored: EventFd,
    registers: Vec<Registers>,
    slots: Vec<Slot>,
}

impl<'a> Assembly<'a> {
    /// Nothing yet; `window` has room for all slots of the machine.
    pub(crate) fn new(
        vm: &'a VmFd,
        window: &'a RegisterWindow,
        inherited: &'a mut Inherited,
    ) -> Result<Self, Error> {
        let ignored = EventFd::new(EFD_NONBLOCK).map_err(eventfds::Error::from)?;
        Ok(Self {
            vm,
            window,
            inherited,
            ignored,
            registers: Vec::new(),
            slots: Vec::new(),
        })
    }

    /// Makes and attaches all devices that `specs` names, for a machine with so many vCPUs.
    pub(crate) fn attach_all(
        mut self,
        specs: &Devices,
        vcpus: u8,
    ) -> Result<(Bus, Vec<Slot>), Error> {
        if let Some(spec) = &specs.fs {
            let eventfds = self.connect(fs::QUEUE_SIZES.len())?;
            let socket = self.take(spec.socket_fd)?;
            let own = eventfds.try_clone().map_err(eventfds::Error::from)?;
            let device = Fs::new(&spec.tag, socket, own)?;
            self.add(Some(Box::new(device)), eventfds);
        }
        if let Some(spec) = &specs.vsock {
            let channel = self.take(spec.channel_fd)?;
            let device = Vsock::new(spec.guest_cid, channel).map_err(set_up("vsock device"))?;
            self.wire(Box::new(device))?;
        }
        if let Some(spec) = &specs.console {
            let output = self.take(spec.output_fd)?;
            self.wire(Box::new(Console::new(output).map_err(set_up("console"))?))?;
        }
        if specs.rng {
            self.wire(Box::new(Rng::default()))?;
        }
        if specs.balloon {
            self.wire(Box::new(Balloon::default()))?;
        }
        for spec in &specs.blocks {
            let image = self.take(spec.fd)?.into();
            let access = Access::read_only(spec.read_only);
            self.wire(Box::new(Block::new(image, access, &spec.serial)?))?;
        }
        for _ in 0..specs.placeholders {
            let eventfds = self.connect(placeholder_queues(vcpus))?;
            self.add(None, eventfds);
        }
        Ok((Bus::new(self.registers), self.slots))
    }

    fn take(&mut self, number: DescriptorNumber) -> Result<OwnedFd, TakeError> {
        self.inherited.take(number)
    }

    fn connect(&self, queues: usize) -> Result<Eventfds, Error> {
        let slot = self.slots.len();
        Ok(Eventfds::connect(self.vm, slot, queues, &self.ignored)?)
    }

    fn wire(&mut self, device: Box<dyn VirtioDevice>) -> Result<(), Error> {
        let eventfds = self.connect(device.queue_sizes().len())?;
        self.add(Some(device), eventfds);
        Ok(())
    }

    fn add(&mut self, device: Option<Box<dyn VirtioDevice>>, eventfds: Eventfds) {
        let Some(page) = self.window.page(self.slots.len()) else {
            debug_assert!(false, "the window has a page for every slot");
            return;
        };
        let identity = device.as_deref().map(Identity::of).unwrap_or_default();
        self.registers.push(Registers::new(page.clone(), identity));
        let interrupt = Arc::new(MmioInterrupt::new(eventfds.irqfd, page));
        self.slots
            .push(Slot::new(device, eventfds.kicks, interrupt));
    }
}

fn set_up(device: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Device { device, source }
}
