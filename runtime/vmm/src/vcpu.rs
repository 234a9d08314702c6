//! One virtual CPU: its loop, and what each exit means.
//!
//! Owns nothing but its KVM descriptor. Device work is left to the event loop; the
//! register files of the bus are written here. Whatever the guest does that has no
//! meaning on this machine is answered as by an empty bus: reads give ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_ioctls::{VcpuExit, VcpuFd};
use nix::errno::Errno;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::bus::Bus;
use crate::control::Exit;
use crate::mailbox::Mailbox;
use crate::sys;
use crate::vcpus::Gate;

/// Keyboard controller, command and status.
const RESET_PORT: u16 = 0x64;
/// Pulses the reset line.
const RESET_COMMAND: u8 = 0xfe;
/// As an absent controller, but ready for a command: Linux waits for that before it
/// writes the reset command.
const RESET_PORT_STATUS: u8 = 0xfd;
/// Where the machine is switched off: by the agent with [`POWER_OFF`], or as ACPI's sleep
/// control register with [`SOFT_OFF`].
pub(crate) const POWER_PORT: u16 = 0x600;
const POWER_OFF: u8 = 0x5a;
/// Sleep type of ACPI's state S5, as the tables tell it.
pub(crate) const SOFT_OFF_TYPE: u8 = 5;
/// That type in its place, and the bit that enters it (ACPI 6.5, 4.8.3.7.1).
const SOFT_OFF: u8 = SOFT_OFF_TYPE << 2 | 1 << 5;
/// BIOS "warm boot" flag: where Linux leaves its reboot mode before the reset.
const REBOOT_MODE_ADDRESS: GuestAddress = GuestAddress(0x472);
/// `reboot=warm` there; the command line asks for that after a panic only.
const WARM: u16 = 0x1234;
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
    /// Runs the guest until it ends; says why.
    pub(crate) fn run(&mut self) -> Exit {
        loop {
            match self.fd.run() {
                Ok(VcpuExit::MmioWrite(address, bytes)) => {
                    write_register(&self.bus, &self.mailbox, address, bytes);
                }
                Ok(VcpuExit::IoOut(RESET_PORT, [RESET_COMMAND])) => return self.reset_cause(),
                Ok(VcpuExit::IoOut(POWER_PORT, [POWER_OFF | SOFT_OFF])) => return Exit::PowerOff,
                Ok(VcpuExit::IoOut(..)) => {}
                Ok(VcpuExit::IoIn(RESET_PORT, bytes)) => bytes.fill(RESET_PORT_STATUS),
                Ok(VcpuExit::IoIn(_, bytes) | VcpuExit::MmioRead(_, bytes)) => bytes.fill(0xff),
                Ok(VcpuExit::Shutdown) => return Exit::TripleFault,
                Ok(VcpuExit::Intr) => self.park(),
                Ok(VcpuExit::InternalError) => match sys::internal_error(self.fd) {
                    (DELIVERY_EVENT, _) => {}
                    (kind, data) => return failed(format!("KVM error {kind}, {data:x?}")),
                },
                Ok(exit) => return unexpected(&exit),
                Err(error) if interrupted(error) => self.park(),
                Err(error) => return failed(format!("run a vCPU: {error}")),
            }
        }
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

    fn reset_cause(&self) -> Exit {
        match self.mem.read_obj::<u16>(REBOOT_MODE_ADDRESS) {
            Ok(WARM) => Exit::Panic,
            _ => Exit::Reboot,
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
