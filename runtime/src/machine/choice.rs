//! Which kind of machine runs a container, and the reason, in one line.

use std::fs::OpenOptions;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Error;
use super::qemu::View;
use crate::installation::{Installation, MachineChoice};

const KVM: &str = "/dev/kvm";
const QEMU: &str = "qemu-system-x86_64";

/// A kind of machine that can be started here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// caisson's own monitor.
    Kvm,
    /// Emulation.
    Tcg {
        /// The program.
        qemu: PathBuf,
    },
}

/// A kind and why it was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The kind.
    pub kind: Kind,
    /// One line for `--debug`.
    pub reason: String,
}

/// Takes the planned kind, or for `auto` KVM where it really works.
///
/// # Errors
/// When the wish can't be met; the text says what to do.
pub fn choose(planned: MachineChoice, installation: &Installation) -> Result<Choice, Error> {
    let kvm = kvm_works();
    match (planned, kvm) {
        (MachineChoice::Kvm | MachineChoice::Auto, Ok(())) => Ok(Choice {
            kind: Kind::Kvm,
            reason: "machine kvm: /dev/kvm works".into(),
        }),
        (MachineChoice::Kvm, Err(reason)) => Err(Error::Kvm(reason)),
        (MachineChoice::Tcg, _) => Ok(Choice {
            kind: Kind::Tcg {
                qemu: find_qemu(installation)?,
            },
            reason: "machine tcg: asked for; emulation is slow, for trying and testing".into(),
        }),
        (MachineChoice::Auto, Err(reason)) => Ok(Choice {
            kind: Kind::Tcg {
                qemu: find_qemu(installation)?,
            },
            reason: format!("machine tcg (slow emulation), because {reason}"),
        }),
    }
}

/// Opening /dev/kvm is not enough: hosts that are themselves guests without
/// hardware virtualization offer a device on which a stock kernel crawls.
fn kvm_works() -> Result<(), String> {
    OpenOptions::new().read(true).write(true).open(KVM).map_err(|err| {
        use std::io::ErrorKind::{NotFound, PermissionDenied};
        match err.kind() {
            PermissionDenied => format!(
                "{KVM}: permission denied: add this user to the group that owns it (often `kvm`) and log in again"
            ),
            NotFound => format!(
                "{KVM}: no such file or directory: load kvm_amd or kvm_intel, or enable virtualization in the firmware"
            ),
            _ => format!("{KVM}: {err}"),
        }
    })?;
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if has_hardware_virtualization(&cpuinfo) {
        return Ok(());
    }
    Err(format!(
        "{KVM} opens, but the CPU shows neither svm nor vmx: guests would be emulated"
    ))
}

fn has_hardware_virtualization(cpuinfo: &str) -> bool {
    let flags = cpuinfo
        .lines()
        .find(|line| line.starts_with("flags"))
        .unwrap_or_default();
    flags
        .split_whitespace()
        .any(|flag| flag == "svm" || flag == "vmx")
}

fn find_qemu(installation: &Installation) -> Result<PathBuf, Error> {
    let qemu = match &installation.config.qemu {
        Some(path) => path.exists().then(|| path.clone()),
        None => find_on_path(),
    };
    let qemu = qemu.ok_or(Error::NoQemu)?;
    // What is wrong with it is told before anything is begun.
    View::of(&qemu)?;
    Ok(qemu)
}

fn find_on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    std::env::split_paths(&path)
        .map(|folder| folder.join(QEMU))
        .find(|candidate| candidate.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_virtualization_is_a_whole_flag() {
        assert!(has_hardware_virtualization("flags\t\t: fpu svm sse"));
        assert!(has_hardware_virtualization("flags : vmx"));
        assert!(!has_hardware_virtualization(
            "flags : svm_lock fpu\nvmx flags : invvpid"
        ));
        assert!(!has_hardware_virtualization(""));
    }
}
