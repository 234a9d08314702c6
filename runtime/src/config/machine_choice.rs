//! Which kind of VM config.toml or an annotation asks for.

use serde::{Deserialize, Serialize};

/// Which kind of machine runs containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MachineChoice {
    /// KVM; emulation where it does not work and the configuration allows that.
    #[default]
    Auto,
    /// caisson's own monitor on KVM.
    Kvm,
    /// QEMU's emulation: slow, for trying and testing without KVM.
    Tcg,
}

impl std::str::FromStr for MachineChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "kvm" => Ok(Self::Kvm),
            "tcg" => Ok(Self::Tcg),
            other => Err(format!("{other:?} is not a machine: use auto, kvm or tcg")),
        }
    }
}
