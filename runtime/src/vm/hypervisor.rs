//! The two ways to run one machine: `kvm` (the product) and `tcg` (emulation).
//!
//! Owns the choice between them and what both have in common: what is asked
//! for, how the end is told. The machines themselves are other processes.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use caisson_vmm::control::Exit;

use super::choice::{Choice, Kind};
use super::{kvm, tcg};
use crate::config::installation::{GuestImage, Installation};
use crate::network::Nics;
use crate::process::program::Killer;
use crate::vm::error::Error as SandboxError;

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

/// What one machine is made of. Every descriptor is opened by the owner.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The container's private folder.
    pub(crate) folder: PathBuf,
    pub(crate) vcpus: u8,
    pub(crate) mem_mib: u32,
    pub(crate) memory: OwnedFd,
    pub(crate) image: GuestImage,
    /// Front end of the file server.
    pub(crate) fs: UnixStream,
    /// The device's end of the channel for the guest's connections.
    pub(crate) vsock_channel: OwnedFd,
    /// Where the guest's console goes.
    pub(crate) console: OwnedFd,
    /// The host's kernel moves the packets of network interfaces.
    pub(crate) vhost_net: bool,
}

/// A machine that was started.
pub(crate) enum Machine {
    /// `caisson-vmm`.
    Kvm(kvm::Machine),
    /// QEMU with our vsock back end.
    Tcg(tcg::Machine),
}

impl Machine {
    /// Starts a machine of the chosen kind; the answer has its network devices, too.
    pub(crate) fn start(
        choice: &Choice,
        installation: &Installation,
        parts: Parts,
    ) -> Result<(Self, Box<dyn Nics>), SandboxError> {
        match &choice.kind {
            Kind::Kvm => {
                let (machine, nics) = kvm::Machine::start(installation, parts)?;
                Ok((Self::Kvm(machine), Box::new(nics)))
            }
            Kind::Tcg { qemu } => {
                let (machine, nics) = tcg::Machine::start(installation, qemu, parts)?;
                Ok((Self::Tcg(machine), Box::new(nics)))
            }
        }
    }

    /// Handles that end every process of the machine.
    pub(crate) fn killers(&self) -> Result<Vec<Killer>, SandboxError> {
        match self {
            Self::Kvm(machine) => machine.killers(),
            Self::Tcg(machine) => machine.killers(),
        }
    }

    /// Waits for the machine's end.
    pub(crate) fn wait(self) -> Exit {
        match self {
            Self::Kvm(machine) => machine.wait(),
            Self::Tcg(machine) => machine.wait(),
        }
    }
}
