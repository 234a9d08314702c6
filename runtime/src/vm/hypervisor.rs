//! The two ways to run one machine: `kvm` (the product) and `tcg` (emulation).
//!
//! Owns the choice between them and what both have in common: what is asked
//! for, how the end is told. The machines themselves are other processes.

use caisson_vmm::control::Exit;

use super::choice::{Choice, Kind};
use super::hypervisor_parts::Parts;
use super::{kvm, tcg};
use crate::config::installation::Installation;
use crate::network::Nics;
use crate::process::program::ProcessKiller;
use crate::vm::error::Error as VmError;

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
    ) -> Result<(Self, Box<dyn Nics>), VmError> {
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
    pub(crate) fn killers(&self) -> Result<Vec<ProcessKiller>, VmError> {
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
