//! Network devices in their virtio-mmio slots.
//!
//! Linux probes a slot when its driver is bound to it, so a device that was plugged into
//! an empty slot is found by binding the slot again, and released by unbinding it. Owns
//! the names of slots.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::failure::{Attempt, Failure};

const DEVICES: &str = "/sys/bus/platform/devices";
const DRIVER: &str = "/sys/bus/platform/drivers/virtio-mmio";
/// Names of slots begin so: by words of the command line, or by ACPI.
const SLOTS: [&str; 2] = ["virtio-mmio.", "LNRO0005:"];

/// A slot with a network device that is in use.
#[derive(Debug)]
pub(super) struct Device {
    slot: String,
}

impl Device {
    /// Finds the network device with the hardware address `mac` in a slot that is not
    /// bound. Returns the kernel's name of the interface too.
    pub(super) fn find(mac: &[u8]) -> Result<(Self, String), Failure> {
        for slot in unbound_slots()? {
            match bind(&slot) {
                Ok(()) => {}
                // Empty.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => continue,
                Err(error) => return Err(error).at("bind", slot_path(&slot)),
            }
            let Some(interface) = interface_of(&slot) else {
                continue;
            };
            if has_address(&interface, mac) {
                return Ok((Self { slot }, name_of(&interface)));
            }
            unbind(&slot)?;
        }
        let octets: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        let line = format!("no network device has the address {}", octets.join(":"));
        Err(Failure::Refused(line))
    }

    /// Unbinds the device; its interface vanishes.
    pub(super) fn unbind(&self) -> Result<(), Failure> {
        unbind(&self.slot)
    }
}

/// Unbinds the devices that were there at boot: none is used before the host configures
/// it.
pub(crate) fn unbind_devices() -> Result<(), Failure> {
    let only_loopback = fs::read_dir("/sys/class/net").is_ok_and(|all| all.count() <= 1);
    if only_loopback {
        return Ok(());
    }
    for slot in slots()? {
        if interface_of(&slot).is_some() {
            unbind(&slot)?;
        }
    }
    Ok(())
}

fn slots() -> Result<Vec<String>, Failure> {
    let entries = fs::read_dir(DEVICES).at("read", DEVICES)?;
    let names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names
        .filter(|name| SLOTS.iter().any(|start| name.starts_with(start)))
        .collect())
}

fn unbound_slots() -> Result<Vec<String>, Failure> {
    let mut slots = slots()?;
    slots.retain(|slot| !slot_path(slot).join("driver").exists());
    slots.sort();
    Ok(slots)
}

fn slot_path(slot: &str) -> PathBuf {
    Path::new(DEVICES).join(slot)
}

fn bind(slot: &str) -> io::Result<()> {
    fs::write(Path::new(DRIVER).join("bind"), slot)
}

fn unbind(slot: &str) -> Result<(), Failure> {
    fs::write(Path::new(DRIVER).join("unbind"), slot).at("unbind", slot_path(slot))
}

/// Directory of the interface whose device is in the slot.
fn interface_of(slot: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(slot_path(slot)).ok()?.flatten();
    let virtio = entries
        .map(|entry| entry.path())
        .find(|path| name_of(path).starts_with("virtio"))?;
    let mut interfaces = fs::read_dir(virtio.join("net")).ok()?.flatten();
    Some(interfaces.next()?.path())
}

fn has_address(interface: &Path, mac: &[u8]) -> bool {
    let text = fs::read_to_string(interface.join("address")).unwrap_or_default();
    let octets = text.trim().split(':');
    octets
        .map(|octet| u8::from_str_radix(octet, 16).ok())
        .eq(mac.iter().map(|octet| Some(*octet)))
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
