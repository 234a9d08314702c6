//! Power-off of a machine with I/O ports.
//!
//! Owns the ways to power off, and their order. Flushes no file system: callers have.

use std::{fs::File, os::unix::fs::FileExt};

use caisson_protocol::{POWER_OFF_PORT, POWER_OFF_VALUE};
use rustix::system::{RebootCommand, reboot};

/// Powers the machine off: by the port that the host listens on, by firmware where the
/// kernel gives no access to ports, else by a restart. Returns only where all fail.
pub(crate) fn power_off() {
    let last_resort = match File::options().write(true).open("/dev/port") {
        Ok(ports) => {
            drop(ports.write_at(&[POWER_OFF_VALUE], u64::from(POWER_OFF_PORT)));
            RebootCommand::Restart
        }
        // A kernel without access to ports is one with ACPI.
        Err(_) => RebootCommand::PowerOff,
    };
    // Nothing is left to try.
    reboot(last_resort).unwrap_or_default();
}
