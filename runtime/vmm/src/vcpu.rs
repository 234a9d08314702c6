//! One virtual CPU: its loop, and what each exit means.
//!
//! Owns nothing but its KVM descriptor. Device work is left to the event loop; the
//! register files of the bus are written here. Whatever the guest does that has no
//! meaning on this machine is answered as by an empty bus: reads give ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_ioctls::{VcpuExit, VcpuFd};
use nix::errno::Errno;
use vm_memory::GuestMemoryMmap;

use crate::arch::ports;
use crate::bus::Bus;
use crate::control::Exit;
use crate::gate::Gate;
use crate::mailbox::Mailbox;
use crate::sys;

/// What a read from nothing gives, as from an empty bus.
const ABSENT: u8 = 0xff;
/// `KVM_INTERNAL_ERROR_DELIVERY_EV`: a device register was written while an event was
/// being delivered. Nothing was executed, so the guest is just entered again: a guest
/// with its stack in a register spins, as one that loops. Emulated SVM claims this
/// falsely for the first write after an exception; there the second entry gets through.
const DELIVERY_EVENT: u32 = 3;

/// A vCPU that is ready to run.
#[derive(Debug)]
pub(crate) struct Vcpu {
    pub(crate) fd: &'static mut VcpuFd,
    /// `kvm_run.immediate_exit`, for other threads.
    pub(crate) immediate_exit: &'static AtomicU8,
    pub(crate) gate: Arc<Gate>,
    pub(crate) bus: Arc<Bus>,
    pub(crate) mailbox: Mailbox,
    pub(crate) mem: GuestMemoryMmap,
}

impl Vcpu {
    /// Runs the guest until it ends; returns why.
    pub(crate) fn run(&mut self) -> Exit {
        loop {
            if let Some(exit) = self.step() {
                return exit;
            }
        }
    }

    /// Runs the guest up to its next exit; returns the machine's end, if it is one.
    fn step(&mut self) -> Option<Exit> {
        match self.fd.run() {
            Ok(VcpuExit::MmioWrite(address, bytes)) => {
                write_register(&self.bus, &self.mailbox, address, bytes);
            }
            Ok(VcpuExit::IoOut(port, bytes)) => return ports::write(port, bytes, &self.mem),
            Ok(VcpuExit::IoIn(port, bytes)) => ports::read(port, bytes),
            Ok(VcpuExit::MmioRead(_, bytes)) => bytes.fill(ABSENT),
            Ok(VcpuExit::Shutdown) => return Some(Exit::TripleFault),
            Ok(VcpuExit::Intr) => self.park(),
            Ok(VcpuExit::InternalError) => match sys::internal_error(self.fd) {
                (DELIVERY_EVENT, _) => {}
                (kind, data) => return Some(failed(format!("KVM error {kind}, {data:x?}"))),
            },
            Ok(exit) => return Some(unexpected(&exit)),
            Err(error) if interrupted(error) => self.park(),
            Err(error) => return Some(failed(format!("run a vCPU: {error}"))),
        }
        None
    }

    /// Waits for as long as the machine is paused.
    ///
    /// Called after an interrupted KVM_RUN only: that has completed the register access of
    /// the exit before, so that the state of the vCPU is whole.
    fn park(&mut self) {
        // Before the gate is looked at, see `vcpus`.
        self.immediate_exit.store(0, Ordering::SeqCst);
        while let Some(round) = self.gate.closed_round() {
            // A guest without kvmclock, which KVM refuses this for, has nothing to know.
            self.fd.kvmclock_ctrl().ok();
            self.mailbox.parked(round);
            self.gate.wait(round);
        }
    }
}

fn write_register(bus: &Bus, mailbox: &Mailbox, address: u64, bytes: &[u8]) {
    if let Some((slot, effect)) = bus.write(address, bytes) {
        mailbox.apply(slot, effect);
    }
}

fn interrupted(error: kvm_ioctls::Error) -> bool {
    [Errno::EINTR, Errno::EAGAIN].contains(&Errno::from_raw(error.errno()))
}

fn unexpected(exit: &VcpuExit<'_>) -> Exit {
    failed(format!("KVM gave up on a vCPU: {exit:?}"))
}

fn failed(message: String) -> Exit {
    Exit::Error { message }
}
