//! Which kind of machine runs a container, and the reason, in one line.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::installation::Installation;
use crate::config::machine_choice::MachineChoice;
use crate::vm::hypervisor_error::{Error, KVM, KvmFault};
use crate::vm::qemu::View;

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
    /// One line: for `--debug`, and for everyone where it is a warning.
    pub reason: String,
}

impl Choice {
    const KVM_REASON: &str = "machine kvm: /dev/kvm works";

    fn kvm() -> Self {
        Self {
            kind: Kind::Kvm,
            reason: Self::KVM_REASON.into(),
        }
    }

    fn emulation(why: &str, qemu: PathBuf) -> Self {
        let reason = format!(
            "machine tcg, {why}: QEMU emulates the guest, which is slow and a weaker barrier than KVM; for trying and testing only"
        );
        Self {
            kind: Kind::Tcg { qemu },
            reason,
        }
    }

    /// What whoever starts the machine has to know: it is emulated.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        match self.kind {
            Kind::Kvm => None,
            Kind::Tcg { .. } => Some(&self.reason),
        }
    }
}

/// Takes the planned kind; for `auto` KVM, or emulation where KVM does not work and the
/// configuration allows emulation.
///
/// # Errors
/// When the wish can't be met; the text says what to do.
pub fn choose(planned: MachineChoice, installation: &Installation) -> Result<Choice, Error> {
    let kvm = judge_kvm(open_kvm, || {
        std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default()
    });
    decide(planned, kvm.map(drop), installation)
}

fn decide(
    planned: MachineChoice,
    kvm: Result<(), KvmFault>,
    installation: &Installation,
) -> Result<Choice, Error> {
    let emulation = |why: &str| Ok(Choice::emulation(why, find_qemu(installation)?));
    match (planned, kvm) {
        (MachineChoice::Kvm | MachineChoice::Auto, Ok(())) => Ok(Choice::kvm()),
        (MachineChoice::Kvm, Err(reason)) => Err(Error::Kvm(reason)),
        (MachineChoice::Tcg, _) => emulation("as asked for"),
        (MachineChoice::Auto, Err(reason)) if installation.config.allows_emulation() => {
            emulation(&format!("because {reason}"))
        }
        (MachineChoice::Auto, Err(reason)) => Err(Error::EmulationNotAllowed {
            reason,
            config: installation.config_path.clone(),
        }),
    }
}

fn open_kvm() -> io::Result<File> {
    File::options().read(true).write(true).open(KVM)
}

/// Returns the open device where KVM can be used. Opening it is not enough: hosts that are
/// themselves guests without hardware virtualization offer a device on which a stock kernel
/// crawls.
pub(crate) fn judge_kvm(
    open: impl FnOnce() -> io::Result<File>,
    cpuinfo: impl FnOnce() -> String,
) -> Result<File, KvmFault> {
    let file = open().map_err(|err| match err.kind() {
        io::ErrorKind::PermissionDenied => KvmFault::Denied,
        io::ErrorKind::NotFound => KvmFault::Missing,
        _ => KvmFault::Unopened(err),
    })?;
    if has_hardware_virtualization(&cpuinfo()) {
        return Ok(file);
    }
    Err(KvmFault::Emulated)
}

/// Whether `/proc/cpuinfo` shows AMD's or Intel's extension.
fn has_hardware_virtualization(cpuinfo: &str) -> bool {
    let flags = cpuinfo
        .lines()
        .find(|line| line.starts_with("flags"))
        .unwrap_or_default();
    flags
        .split_whitespace()
        .any(|flag| flag == "svm" || flag == "vmx")
}

/// Returns the QEMU program that would be started.
///
/// # Errors
/// When there is none, or it can't be started in a jail.
pub(crate) fn find_qemu(installation: &Installation) -> Result<PathBuf, Error> {
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

    /// Without KVM, as on a host whose driver does not load, with this configuration.
    fn without_kvm(config: &str, planned: MachineChoice) -> Result<Choice, Error> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        let qemu = "qemu = \"/bin/sh\"\n";
        std::fs::write(&file, format!("{qemu}{config}")).unwrap();
        let installation = Installation::find(Some(&file)).unwrap();
        decide(planned, Err(KvmFault::Missing), &installation)
    }

    #[test]
    fn nothing_is_emulated_unless_the_configuration_says_so() {
        let err = without_kvm("", MachineChoice::Auto).unwrap_err();
        let line = err.to_string();
        for words in [
            "/dev/kvm: no such file or directory: ",
            "`machine = \"tcg\"`",
            "`allow_emulation = true`",
            "/config.toml",
        ] {
            assert!(line.contains(words), "{line}");
        }
        let strict = without_kvm(
            "machine = \"kvm\"\nallow_emulation = true",
            MachineChoice::Kvm,
        );
        assert!(matches!(strict, Err(Error::Kvm(_))), "{strict:?}");
    }

    #[test]
    fn emulation_that_is_allowed_is_a_warning() {
        for (config, planned) in [
            ("allow_emulation = true", MachineChoice::Auto),
            ("machine = \"tcg\"", MachineChoice::Auto),
            ("machine = \"tcg\"", MachineChoice::Tcg),
        ] {
            let choice = without_kvm(config, planned).unwrap();
            let warning = choice.warning().unwrap();
            assert!(warning.starts_with("machine tcg, "), "{warning}");
        }
        assert_eq!(Choice::kvm().warning(), None);
    }

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
