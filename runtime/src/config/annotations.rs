//! What annotations of config.json mean to caisson, and the one rule for them.
//!
//! Whoever writes annotations need not be the administrator: a user of an engine sets
//! them, or a pod's author. So an annotation chooses only among what config.toml allows,
//! and never widens it: `Bounds` is what it allows. The same holds for `vm` of
//! config.json, which asks for the same things. What asks for more is refused by its
//! name; limits of containers size a machine, and are cut to its bounds. Owns the table of
//! annotations, which docs/annotations.md is printed from. Reads no file.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;

use crate::config::machine_choice::MachineChoice;
use crate::seccomp::VsockAccess;

/// Chooses the machine of one container: `auto`, `kvm` or `tcg`.
pub const MACHINE: &str = "dev.caisson.machine";
/// Gives the container's processes sockets of `AF_VSOCK`: `allow` or `refuse`.
pub const VSOCK: &str = "dev.caisson.vsock";
/// Has the container write its root to guest memory, at most so many MiB.
pub const ROOT_OVERLAY_MIB: &str = "dev.caisson.root-overlay-mib";
/// Names a group of containers that share one machine.
pub const GROUP: &str = "dev.caisson.group";
/// The name of a group to containerd's shim for runc.
pub const RUNC_GROUP: &str = "io.containerd.runc.v2.group";
/// What of Kubernetes begins with this is written by containerd's CRI plugin.
pub const CRI_PREFIX: &str = "io.kubernetes.cri.";
/// A property of the systemd unit, as runc and crun know it.
pub const SYSTEMD_PREFIX: &str = "org.systemd.property.";
/// Which containers share one machine, in the order in which annotations count: what a
/// user says must not take a container out of its pod, and into another's machine.
pub const GROUPS: [&str; 4] = [
    "io.kubernetes.cri.sandbox-id",
    "io.kubernetes.cri-o.SandboxID",
    GROUP,
    RUNC_GROUP,
];
/// As much as any machine has.
const MAX_ROOT_OVERLAY_MIB: u32 = 1 << 20;
/// All annotations of caisson's own begin with this.
const OWN_PREFIX: &str = "dev.caisson.";

/// One annotation, or all that begin with one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Annotation {
    /// Its key; `*` stands for the rest of it.
    pub key: &'static str,
    /// What it chooses.
    pub meaning: &'static str,
    /// What of config.toml, or of the caller, it chooses within.
    pub within: &'static str,
}

/// Every annotation that changes something.
pub const TABLE: &[Annotation] = &[
    Annotation {
        key: MACHINE,
        meaning: "the kind of machine: `auto`, `kvm` or `tcg`",
        within: "`kvm` always; `tcg` with `machine = \"tcg\"`, or with `machine = \"auto\"` and `allow_emulation = true`; `auto` is whatever of them works, kvm first",
    },
    Annotation {
        key: VSOCK,
        meaning: "whether the container's processes get sockets of `AF_VSOCK`, the family by which the guest's agent reaches the host: `allow` or `refuse`, the default",
        within: "always allowed: the host closes each connection that does not prove to be the agent's",
    },
    Annotation {
        key: ROOT_OVERLAY_MIB,
        meaning: "what the container writes to its root stays in the machine's memory, at most so many MiB (1 to 1048576), and is gone with it; the host serves the root read-only, without what is mounted below it",
        within: "always allowed: it counts to the container's memory limit, and the machine has no more memory for it",
    },
    Annotation {
        key: GROUP,
        meaning: "the name of a group of containers that share one machine, under containerd",
        within: "refused with `forbid_groups = true`; the container whose machine it is must name the same group",
    },
    Annotation {
        key: RUNC_GROUP,
        meaning: "the same, as the shim of runc knows it; counts after `dev.caisson.group`",
        within: "as `dev.caisson.group`",
    },
    Annotation {
        key: "io.kubernetes.cri.sandbox-id",
        meaning: "the pod whose containers share one machine; containerd's CRI plugin writes it, and it counts before the two above",
        within: "is the engine's word",
    },
    Annotation {
        key: "io.kubernetes.cri-o.SandboxID",
        meaning: "the same, of CRI-O",
        within: "is the engine's word",
    },
    Annotation {
        key: "io.kubernetes.cri.container-type",
        meaning: "`sandbox`: this container's machine is its pod's, with the size that the next three say",
        within: "is the engine's word",
    },
    Annotation {
        key: "io.kubernetes.cri.sandbox-memory",
        meaning: "memory limit of the pod in bytes, from which its machine gets its memory",
        within: "cut to `max_mem_mib`",
    },
    Annotation {
        key: "io.kubernetes.cri.sandbox-cpu-quota",
        meaning: "CPU quota of the pod in µs for each period, from which its machine gets its vCPUs",
        within: "cut to `max_vcpus`, and to the host's CPUs",
    },
    Annotation {
        key: "io.kubernetes.cri.sandbox-cpu-period",
        meaning: "that period in µs",
        within: "as the quota",
    },
    Annotation {
        key: "org.systemd.property.*",
        meaning: "a property of the systemd unit that holds the container's processes on the host, not of the machine",
        within: "nothing without `--systemd-cgroup`, which the caller decides; then any property of a scope, as with runc",
    },
];

/// Annotations by their keys.
pub type Annotations = HashMap<String, String>;

/// What containers may choose among: the administrator's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// The kind of machine for containers that choose none.
    pub machine: MachineChoice,
    /// Containers may run in emulation.
    pub emulation: bool,
    /// Most memory of a machine, in MiB.
    pub max_mem_mib: u32,
    /// Most virtual CPUs of a machine.
    pub max_vcpus: u8,
    /// Kernels that a container may name.
    pub kernels: Vec<PathBuf>,
    /// Containers that are no pod may share a machine.
    pub groups: bool,
}

/// What asks for more than is allowed, by its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not a kind of machine.
    #[error("annotation {MACHINE}: {0}")]
    NoMachine(String),
    /// Neither gives sockets nor refuses them.
    #[error("annotation {VSOCK}: {0:?} is neither allow nor refuse")]
    NoVsockAccess(String),
    /// Not a size of a root overlay.
    #[error(
        "annotation {ROOT_OVERLAY_MIB}: {0:?} is not a number of MiB from 1 to {MAX_ROOT_OVERLAY_MIB}"
    )]
    NoRootOverlay(String),
    /// Emulation, which is a weaker barrier.
    #[error(
        "annotation {MACHINE}: tcg is not allowed on this host: the configuration has to say `machine = \"tcg\"`, or `machine = \"auto\"` and `allow_emulation = true`"
    )]
    Emulation,
    /// Too many.
    #[error(
        "{request}: a machine has 1 to {max} vCPUs, not {asked}; `max_vcpus` of the configuration says how many at most"
    )]
    Vcpus {
        /// Who asks.
        request: &'static str,
        /// The bound.
        max: u8,
        /// For how many.
        asked: u32,
    },
    /// Too little or too much.
    #[error(
        "{request}: a machine has {min} to {max} MiB of memory, not {asked} bytes; `max_mem_mib` of the configuration says how many at most"
    )]
    Memory {
        /// Who asks.
        request: &'static str,
        /// What any guest needs.
        min: u32,
        /// The bound.
        max: u32,
        /// For how much.
        asked: u64,
    },
    /// Whoever names a kernel is root in every container it boots.
    #[error(
        "vm.kernel.path: {} is not a kernel that this host permits; name it in `allowed_kernels` of the configuration", .0.display()
    )]
    Kernel(PathBuf),
    /// A machine that is shared by the word of a user.
    #[error(
        "annotation {0}: groups are not allowed on this host: `forbid_groups` of the configuration is true"
    )]
    Groups(&'static str),
    /// A machine whose first container has not agreed to share it.
    #[error(
        "annotation {key}: the machine of {first} is not of the group {group:?}: its own annotations have to say so too"
    )]
    NotOfGroup {
        /// Who asks.
        key: &'static str,
        /// For what.
        group: String,
        /// Whose machine it is.
        first: String,
    },
}

impl Bounds {
    /// The kind of machine that the annotations choose, or the administrator's.
    ///
    /// # Errors
    /// When they choose what is not allowed.
    pub fn machine(&self, annotations: &Annotations) -> Result<MachineChoice, Refused> {
        let Some(text) = annotations.get(MACHINE) else {
            return Ok(self.machine);
        };
        match text.parse().map_err(Refused::NoMachine)? {
            MachineChoice::Tcg if !self.emulation => Err(Refused::Emulation),
            // Where nothing weaker is allowed, that is all there is to choose among.
            MachineChoice::Auto if self.machine == MachineChoice::Kvm => Ok(MachineChoice::Kvm),
            machine => Ok(machine),
        }
    }

    /// As many vCPUs as `request` asks for.
    ///
    /// # Errors
    /// When they are too many.
    pub fn vcpus(&self, request: &'static str, asked: u32) -> Result<u8, Refused> {
        let max = self.max_vcpus;
        u8::try_from(asked)
            .ok()
            .filter(|vcpus| (1..=max).contains(vcpus))
            .ok_or(Refused::Vcpus {
                request,
                max,
                asked,
            })
    }

    /// As many MiB, at least `min`, as the bytes that `request` asks for.
    ///
    /// # Errors
    /// When they are too few or too many.
    pub fn mem_mib(&self, request: &'static str, asked: u64, min: u32) -> Result<u32, Refused> {
        let max = self.max_mem_mib;
        u32::try_from(asked.div_ceil(1 << 20))
            .ok()
            .filter(|mem_mib| (min..=max).contains(mem_mib))
            .ok_or(Refused::Memory {
                request,
                min,
                max,
                asked,
            })
    }

    /// A kernel, if it is permitted.
    ///
    /// # Errors
    /// When it is not.
    pub fn kernel(&self, path: PathBuf) -> Result<PathBuf, Refused> {
        if self.kernels.contains(&path) {
            Ok(path)
        } else {
            Err(Refused::Kernel(path))
        }
    }

    /// Checks that a container may join the machine of the container `first`. Engines
    /// make pods; users name a group, and both containers have to name it.
    ///
    /// # Errors
    /// When it may not.
    pub fn join(
        &self,
        joining: &Annotations,
        first: &str,
        of_first: &Annotations,
    ) -> Result<(), Refused> {
        let Some((key, group)) = named_group(joining) else {
            return Ok(());
        };
        if !self.groups {
            return Err(Refused::Groups(key));
        }
        match named_group(of_first) {
            Some((_, same)) if same == group => Ok(()),
            _ => Err(Refused::NotOfGroup {
                key,
                group: group.to_owned(),
                first: first.to_owned(),
            }),
        }
    }
}

/// Returns whether the container's processes may make sockets of `AF_VSOCK`.
///
/// # Errors
/// When the annotation has another value.
pub fn vsock(annotations: &Annotations) -> Result<VsockAccess, Refused> {
    match annotations.get(VSOCK).map(String::as_str) {
        None | Some("refuse") => Ok(VsockAccess::Refused),
        Some("allow") => Ok(VsockAccess::Allowed),
        Some(other) => Err(Refused::NoVsockAccess(other.to_owned())),
    }
}

/// The most that the container writes to its root, where that is to stay in guest memory.
///
/// # Errors
/// When the annotation is no such size.
pub fn root_overlay_mib(annotations: &Annotations) -> Result<Option<NonZeroU32>, Refused> {
    let Some(text) = annotations.get(ROOT_OVERLAY_MIB) else {
        return Ok(None);
    };
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let size_mib = text
        .parse()
        .ok()
        .filter(|size_mib: &NonZeroU32| is_digits && size_mib.get() <= MAX_ROOT_OVERLAY_MIB);
    let refused = || Refused::NoRootOverlay(text.clone());
    size_mib.map(Some).ok_or_else(refused)
}

/// The group that annotations name, unless the container is of a pod.
fn named_group(annotations: &Annotations) -> Option<(&'static str, &str)> {
    let (key, group) = GROUPS.iter().find_map(|key| {
        let group = annotations.get(*key)?;
        Some((*key, group.as_str()))
    })?;
    let is_named = [GROUP, RUNC_GROUP].contains(&key) && !group.is_empty();
    is_named.then_some((key, group))
}

/// Annotations of caisson's own name space that mean nothing: the specification forbids
/// to fail for them, and whoever mistyped one has to be told.
pub(crate) fn unknown(annotations: &Annotations) -> Vec<Unknown> {
    let is_known = |key: &str| TABLE.iter().any(|row| row.key == key);
    let mut unknown: Vec<_> = annotations
        .keys()
        .filter(|key| key.starts_with(OWN_PREFIX) && !is_known(key))
        .map(|key| Unknown(key.clone()))
        .collect();
    unknown.sort();
    unknown
}

/// The key of an annotation that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Unknown(String);

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "annotation {} is not known, and changes nothing", self.0)
    }
}

#[cfg(test)]
#[path = "annotations_test.rs"]
mod tests;
