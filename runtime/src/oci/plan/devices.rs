//! Devices of the host that a privileged container is given all at once.
//!
//! Engines list every device of the host for such a container, whoever asked for
//! which. The guest has its own: the host's are left out, and the log says so.
//! For any other container a device that the guest lacks is an error, the agent's.

use caisson_protocol::is_universal_device;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Spec};

/// Takes the host's devices out of the configuration of a container that may use
/// every device. Returns a line for the log, if there were any.
pub(crate) fn leave_out_the_hosts(spec: &mut Spec) -> Option<String> {
    let mut linux = spec.linux().clone()?;
    if !may_use_every_device(spec) {
        return None;
    }
    let (kept, left_out): (Vec<LinuxDevice>, _) = linux
        .devices()
        .clone()?
        .into_iter()
        .partition(exists_in_the_guest);
    let names: Vec<String> = left_out
        .iter()
        .map(|device| device.path().display().to_string())
        .collect();
    linux.set_devices(Some(kept));
    spec.set_linux(Some(linux));
    let names = names.join(" ");
    let line = format!("linux.devices: the guest has none of the host's devices: {names}");
    (!names.is_empty()).then_some(line)
}

/// The last rule that is for all devices allows everything.
fn may_use_every_device(spec: &Spec) -> bool {
    let linux = spec.linux().as_ref();
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    let rules = resources.and_then(|resources| resources.devices().as_deref());
    let for_all = rules.unwrap_or_default().iter().rev().find(|rule| {
        let any_kind = matches!(rule.typ(), None | Some(LinuxDeviceType::A));
        any_kind && rule.major().is_none_or(|n| n < 0) && rule.minor().is_none_or(|n| n < 0)
    });
    for_all.is_some_and(|rule| {
        let access = rule.access().as_deref().unwrap_or_default();
        rule.allow() && "rwm".chars().all(|letter| access.contains(letter))
    })
}

fn exists_in_the_guest(device: &LinuxDevice) -> bool {
    match device.typ() {
        LinuxDeviceType::P => true,
        LinuxDeviceType::C | LinuxDeviceType::U => {
            is_universal_device(device.major(), device.minor())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(allow: bool) -> Spec {
        let json = serde_json::json!({"ociVersion": "1.3.0", "linux": {
            "devices": [
                {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229},
                {"path": "/dev/sda", "type": "b", "major": 8, "minor": 0},
                {"path": "/dev/kvm", "type": "c", "major": 10, "minor": 232}],
            "resources": {"devices": [
                {"allow": false, "access": "rwm"},
                {"allow": allow, "access": "rwm"},
                {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"}]}}});
        serde_json::from_value(json).unwrap()
    }

    fn count(spec: &Spec) -> usize {
        let linux = spec.linux().as_ref().unwrap();
        linux.devices().as_ref().unwrap().len()
    }

    #[test]
    fn a_container_with_every_device_gets_none_of_the_hosts() {
        let mut spec = spec(true);
        let line = leave_out_the_hosts(&mut spec).unwrap();
        assert!(line.ends_with(": /dev/sda /dev/kvm"), "{line}");
        assert_eq!(count(&spec), 1);
        assert_eq!(leave_out_the_hosts(&mut spec), None);
    }

    #[test]
    fn another_container_keeps_what_it_asks_for() {
        let mut spec = spec(false);
        assert_eq!(leave_out_the_hosts(&mut spec), None);
        assert_eq!(count(&spec), 3);
    }
}
