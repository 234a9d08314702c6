//! Why there is no hypervisor for a VM.

use std::path::PathBuf;

/// Why no machine can be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// KVM was asked for and can't be used.
    #[error("{0}")]
    Kvm(String),
    /// KVM can't be used, and nobody has allowed emulation.
    #[error(
        "{reason}; to have QEMU emulate machines instead, which is slow and a weaker barrier, set `allow_emulation = true` or `machine = \"tcg\"` in {}", .config.display()
    )]
    EmulationNotAllowed {
        /// Why KVM can't be used.
        reason: String,
        /// Where emulation can be allowed.
        config: PathBuf,
    },
    /// Emulation was asked for and there is no QEMU.
    #[error(
        "qemu-system-x86_64 not found on PATH: install it (Debian: qemu-system-x86), or name it with `qemu` in the configuration"
    )]
    NoQemu,
    /// A QEMU that can't be started in a jail.
    #[error("QEMU {}: {reason}", .path.display())]
    Qemu {
        /// The program.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A kernel that is not one.
    #[error("guest kernel {path}: {reason}")]
    Kernel {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}
