//! The ports of the machine: the keyboard controller's reset line, and the power button.
//!
//! Every other port is an empty bus: writes go nowhere, reads give ones.

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::control::Exit;

/// Keyboard controller, command and status.
const RESET_PORT: u16 = 0x64;
/// Pulses the reset line.
const RESET_COMMAND: u8 = 0xfe;
/// As an absent controller, but ready for a command: Linux waits for that before it
/// writes the reset command.
const RESET_PORT_STATUS: u8 = 0xfd;
/// Where the machine is switched off: by the agent with [`POWER_OFF`], or as ACPI's sleep
/// control register with [`SOFT_OFF`].
pub(super) const POWER_PORT: u16 = 0x600;
const POWER_OFF: u8 = 0x5a;
/// Sleep type of ACPI's state S5, as the tables have it.
pub(super) const SOFT_OFF_TYPE: u8 = 5;
/// That type in its place, and the bit that enters it (ACPI 6.5, 4.8.3.7.1).
const SOFT_OFF: u8 = SOFT_OFF_TYPE << 2 | 1 << 5;
/// BIOS "warm boot" flag: where Linux leaves its reboot mode before the reset.
const REBOOT_MODE_ADDRESS: GuestAddress = GuestAddress(0x472);
/// `reboot=warm` there; the command line asks for that after a panic only.
const WARM: u16 = 0x1234;

/// The guest wrote `bytes` to `port`: the end of the machine, if it is one.
pub(crate) fn write(port: u16, bytes: &[u8], mem: &GuestMemoryMmap) -> Option<Exit> {
    match (port, bytes) {
        (RESET_PORT, [RESET_COMMAND]) => Some(reset_cause(mem)),
        (POWER_PORT, [POWER_OFF | SOFT_OFF]) => Some(Exit::PowerOff),
        _ => None,
    }
}

/// Fills in what the guest reads from `port`.
pub(crate) fn read(port: u16, bytes: &mut [u8]) {
    bytes.fill(match port {
        RESET_PORT => RESET_PORT_STATUS,
        _ => 0xff,
    });
}

fn reset_cause(mem: &GuestMemoryMmap) -> Exit {
    match mem.read_obj::<u16>(REBOOT_MODE_ADDRESS) {
        Ok(WARM) => Exit::Panic,
        _ => Exit::Reboot,
    }
}
