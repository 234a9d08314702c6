//! Why there is no hypervisor for a VM.

use std::io;
use std::path::PathBuf;

/// The device of KVM.
pub(crate) const KVM: &str = "/dev/kvm";

/// Why KVM can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KvmFault {
    /// The user may not open it.
    #[error(
        "{KVM}: permission denied: add this user to the group that owns it (often `kvm`) and log in again"
    )]
    Denied,
    /// It does not exist.
    #[error(
        "{KVM}: no such file or directory: load kvm_amd or kvm_intel, or enable virtualization in the firmware"
    )]
    Missing,
    /// It can't be opened for another reason.
    #[error("{KVM}: {0}")]
    Unopened(io::Error),
    /// It opens, and the host's CPU can't run guests.
    #[error("{KVM} opens, but the CPU shows neither svm nor vmx: guests would be emulated")]
    Emulated,
}

impl KvmFault {
    /// The check of `caisson doctor` that explains it.
    #[must_use]
    pub const fn check(&self) -> &'static str {
        match self {
            Self::Denied | Self::Unopened(_) => "kvm-access",
            Self::Missing => "kvm-device",
            Self::Emulated => "cpu-virtualization",
        }
    }
}

/// Why no machine can be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// KVM was asked for and can't be used.
    #[error("{0} (see `caisson doctor {check}`)", check = .0.check())]
    Kvm(KvmFault),
    /// KVM can't be used, and nobody has allowed emulation.
    #[error(
        "{reason}; to have QEMU emulate machines instead, which is slow and a weaker barrier, set `allow_emulation = true` or `machine = \"tcg\"` in {} (see `caisson doctor {check}`)", .config.display(), check = .reason.check()
    )]
    EmulationNotAllowed {
        /// Why KVM can't be used.
        reason: KvmFault,
        /// Where emulation can be allowed.
        config: PathBuf,
    },
    /// Emulation was asked for and there is no QEMU.
    #[error(
        "qemu-system-x86_64 not found on PATH: install it (Debian: qemu-system-x86), or name it with `qemu` in the configuration (see `caisson doctor qemu`)"
    )]
    NoQemu,
    /// A QEMU that can't be started in a jail.
    #[error("QEMU {}: {reason} (see `caisson doctor qemu`)", .path.display())]
    Qemu {
        /// The program.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A kernel that is not one.
    #[error("guest kernel {path}: {reason} (see `caisson doctor guest-kernel`)")]
    Kernel {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}
