//! `Plan`: every decision about one container, made once, as plain data.
//!
//! Owns the decisions: the size of the machine, what of the host is shared,
//! what the guest is asked to do. Does nothing itself: no file, no process, no
//! clock; `size` has how large the machine is. Fields that can't be applied are refused by `fields` before.

mod access_times;
mod binds;
pub mod conditions;
mod devices;
mod host_facts;
mod joined;
mod overlay;
mod share;
mod size;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use caisson_protocol::SHARE_PATH;
use oci_spec::runtime::{LinuxNamespaceType, LinuxResources, Spec};
use serde::{Deserialize, Serialize};

use crate::cgroup;
use crate::cgroup::Place;
use crate::config::annotations;
use crate::config::annotations::Annotations;
use crate::config::machine_choice::MachineChoice;
use crate::hooks;
use crate::hooks::Hooks;
use crate::host::identity;
use crate::host::identity::Identities;
use crate::oci::bundle::Bundle;
use crate::oci::capabilities;
use crate::oci::fields;
use crate::oci::memory_policy;
use crate::oci::memory_policy::MemoryPolicy;
use crate::seccomp;

pub use access_times::{AccessTime, AccessTimes, TimeOptions};
pub use binds::is_of_guest;
pub use host_facts::HostFacts;
use joined::Joined;
pub use share::{Access, IdMaps, Overlay, Share, Upper};
use size::Size;
pub use size::{DEFAULT_MEM_MIB, DEFAULT_VCPUS, GUEST_OVERHEAD_MIB};

/// What can't be planned.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of config.json that caisson can't apply.
    #[error(transparent)]
    Refused(#[from] fields::Error),
    /// An annotation asks for what is not allowed.
    #[error(transparent)]
    Annotation(#[from] annotations::Refused),
    /// Fields that contradict each other, or a value that no process can have.
    #[error(transparent)]
    Condition(#[from] conditions::Unmet),
    /// A bind mount that can't be one.
    #[error(transparent)]
    Bind(#[from] binds::Malformed),
    /// An overlay that can't be one.
    #[error(transparent)]
    Overlay(#[from] overlay::Malformed),
    /// A machine that can't be had.
    #[error(transparent)]
    Size(#[from] size::Error),
    /// A memory policy that can't be one.
    #[error(transparent)]
    MemoryPolicy(#[from] memory_policy::Malformed),
    /// A cgroup that can't be one.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Malformed),
    /// Ids that this user can't give to a container.
    #[error(transparent)]
    Identity(#[from] identity::Refused),
    /// A hook that can't be run.
    #[error(transparent)]
    Hook(#[from] hooks::Malformed),
    /// A profile that can't be compiled.
    #[error(transparent)]
    Seccomp(#[from] seccomp::Error),
    /// The planned configuration can't be written as JSON.
    #[error("write the guest's configuration")]
    Encode(#[source] serde_json::Error),
}

/// Every decision about one container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Kind of machine to use.
    pub machine: MachineChoice,
    /// Virtual CPUs.
    pub vcpus: u8,
    /// Guest memory in MiB.
    pub mem_mib: u32,
    /// The guest's kernel, where config.json names it.
    pub kernel: Option<PathBuf>,
    /// From which nodes of the host the machine's memory comes.
    pub memory_policy: Option<MemoryPolicy>,
    /// The network namespace on the host's side.
    pub network: Network,
    /// The container's resolv.conf on the host, where the caller brings one.
    pub resolv_conf: Option<PathBuf>,
    /// Host directories and files that the guest may see.
    pub shares: Vec<Share>,
    /// Mount destinations, and the working directory, that a read-only root file system
    /// must have already: neither the guest nor the file server may make them.
    pub mount_points: Vec<MountPoint>,
    /// What is written to the root goes to guest memory, at most so much.
    pub root_overlay_mib: Option<NonZeroU32>,
    /// config.json as the agent gets it.
    pub guest_spec: serde_json::Value,
    /// What decides about system calls of the container's processes.
    pub seccomp: Option<seccomp::Filter>,
    /// The process has a terminal.
    pub terminal: bool,
    /// What the log says of fields that change nothing, a line each.
    pub warnings: Vec<String>,
    /// Where the owner and its helpers live on the host.
    pub cgroup: Place,
    /// Limits, for that place too.
    pub resources: LinuxResources,
    /// Ids of the owner's user namespace, where it needs one of its own.
    pub identities: Option<Identities>,
    /// Programs that the host runs at turns of the container's life.
    pub hooks: Hooks,
}

/// The network namespace in which the container's owner lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// A new one.
    Own,
    /// One that the caller made.
    Join(PathBuf),
}

impl Network {
    /// The file that stands for it, if it is one that the caller made.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Own => None,
            Self::Join(path) => Some(path),
        }
    }
}

/// One place in the root file system where the guest mounts something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// Path in the container.
    pub destination: PathBuf,
    /// What is bound there; its kind decides the place's. A directory without.
    pub source: Option<PathBuf>,
}

/// Decides everything about the container `id` of `bundle`.
///
/// # Errors
/// When the configuration asks for what caisson can't apply.
pub fn plan(id: &str, bundle: &Bundle, facts: &HostFacts) -> Result<Plan, Error> {
    let joined = Joined::of(&bundle.raw, &facts.group);
    let ignored = fields::check(&joined.without_paths(&bundle.raw))?;
    conditions::check(&bundle.raw)?;
    let profile = bundle
        .spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.seccomp().as_ref());
    let none = Annotations::new();
    let annotations = bundle.spec.annotations().as_ref().unwrap_or(&none);
    let seccomp = seccomp::compile(profile, annotations::vsock(annotations)?)?;
    let mut spec = bundle.spec.clone();
    let root_overlay_mib = annotations::root_overlay_mib(annotations)?;
    let mut shares = vec![share_rootfs(id, bundle, root_overlay_mib.is_some())];
    shares.extend(binds::share_binds(
        id,
        bundle,
        &mut spec,
        facts.user.is_none(),
    )?);
    shares.extend(overlay::share_overlays(id, bundle, &mut spec)?);
    let network = take_network(&mut spec);
    let identities = take_identities(&mut spec, facts)?;
    rewrite_for_guest(id, &mut spec);
    let left_out = devices::leave_out_the_hosts(&mut spec);
    if bundle.raw.pointer("/linux/resources/pids/limit").is_none() {
        forget_pids(&mut spec);
    }
    let resources = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.resources().as_ref());
    let size = Size::of(resources, &bundle.raw, facts)?;
    let unknown = annotations::unknown(annotations);
    let unknown = unknown.iter().map(ToString::to_string);
    Ok(Plan {
        machine: facts.bounds.machine(annotations)?,
        vcpus: size.vcpus,
        mem_mib: size.mem_mib,
        kernel: size.kernel,
        memory_policy: MemoryPolicy::planned(&bundle.spec)?,
        network,
        resolv_conf: resolv_conf(bundle),
        shares,
        // The guest makes those of an overlay, in its memory.
        mount_points: match root_overlay_mib {
            Some(_) => Vec::new(),
            None => mount_points(bundle),
        },
        root_overlay_mib,
        seccomp,
        terminal: spec
            .process()
            .as_ref()
            .and_then(|process| process.terminal())
            .unwrap_or(false),
        cgroup: place(id, &bundle.spec, facts.cgroup_driver)?,
        resources: resources.cloned().unwrap_or_default(),
        identities,
        hooks: Hooks::planned(spec.hooks().as_ref())?,
        guest_spec: joined.named(fields::for_guest(
            serde_json::to_value(&spec).map_err(Error::Encode)?,
        )),
        warnings: ignored
            .iter()
            .map(ToString::to_string)
            .chain(left_out)
            .chain(size.cut)
            .chain(unknown)
            .chain(capabilities::not_raised(&bundle.raw["process"]))
            .collect(),
    })
}

/// In the parsed form, no limit of tasks looks like a limit of none.
fn forget_pids(spec: &mut Spec) {
    if let Some(mut linux) = spec.linux().clone()
        && let Some(mut resources) = linux.resources().clone()
    {
        resources.set_pids(None);
        linux.set_resources(Some(resources));
        spec.set_linux(Some(linux));
    }
}

fn root_is_read_only(bundle: &Bundle) -> bool {
    let root = bundle.spec.root().as_ref();
    root.and_then(|root| root.readonly()).unwrap_or(false)
}

/// Places below another mount are made in that mount, by the guest; the process's
/// working directory is one more place.
fn mount_points(bundle: &Bundle) -> Vec<MountPoint> {
    if !root_is_read_only(bundle) {
        return Vec::new();
    }
    let mounts = bundle.spec.mounts().as_deref().unwrap_or(&[]);
    let mounts = mounts.iter().filter(|mount| !binds::is_remount(mount));
    let of_mounts = mounts.map(|mount| {
        let source = mount.source().as_ref().filter(|_| binds::is_bind(mount));
        MountPoint {
            destination: binds::destination(&bundle.rootfs, mount.destination()),
            source: source.map(|source| bundle.path.join(source)),
        }
    });
    let process = bundle.spec.process().as_ref();
    let working_folder = process.map(|process| MountPoint {
        destination: Path::new("/").join(process.cwd()),
        source: None,
    });
    let mut places: Vec<MountPoint> = Vec::new();
    for place in of_mounts.chain(working_folder) {
        let is_covered = |earlier: &MountPoint| place.destination.starts_with(&earlier.destination);
        if !places.iter().any(is_covered) {
            places.push(place);
        }
    }
    places
}

/// Overlayfs looks behind no mount in its lower directory: below an overlay, the root is
/// shared without the mounts below it.
fn share_rootfs(id: &str, bundle: &Bundle, below_overlay: bool) -> Share {
    let access = if below_overlay || root_is_read_only(bundle) {
        Access::ReadOnly
    } else {
        Access::AsMounted
    };
    Share {
        source: bundle.rootfs.clone(),
        overlay: None,
        target: Path::new(id).join("rootfs"),
        access,
        recursive: !below_overlay,
        id_maps: None,
        access_times: AccessTimes::default(),
    }
}

/// The file that is bound over /etc/resolv.conf.
fn resolv_conf(bundle: &Bundle) -> Option<PathBuf> {
    let mounts = bundle.spec.mounts().as_deref().unwrap_or(&[]);
    let is_it = |mount: &&oci_spec::runtime::Mount| {
        binds::is_bind(mount) && mount.destination() == Path::new("/etc/resolv.conf")
    };
    let mount = mounts.iter().rfind(is_it)?;
    Some(bundle.path.join(mount.source().as_ref()?))
}

/// The guest has no network namespace of the container's own: the machine is it.
fn take_network(spec: &mut Spec) -> Network {
    let mut network = Network::Own;
    let Some(mut linux) = spec.linux().clone() else {
        return network;
    };
    if let Some(mut namespaces) = linux.namespaces().clone() {
        namespaces.retain(|namespace| {
            if namespace.typ() != LinuxNamespaceType::Network {
                return true;
            }
            if let Some(path) = namespace.path() {
                network = Network::Join(path.clone());
            }
            false
        });
        linux.set_namespaces(Some(namespaces));
    }
    spec.set_linux(Some(linux));
    network
}

/// An ordinary user's container has its user namespace on the host.
fn take_identities(spec: &mut Spec, facts: &HostFacts) -> Result<Option<Identities>, Error> {
    let Some(user) = &facts.user else {
        return Ok(None);
    };
    let mut linux = spec.linux().clone().unwrap_or_default();
    let [uids, gids] = [linux.uid_mappings(), linux.gid_mappings()];
    let identities = user.identities(uids.as_deref(), gids.as_deref())?;
    if let Some(process) = spec.process() {
        let wanted = process.user();
        let more = wanted.additional_gids().as_deref().unwrap_or(&[]);
        identities.check(wanted.uid(), wanted.gid(), more)?;
    }
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    namespaces.retain(|namespace| namespace.typ() != LinuxNamespaceType::User);
    linux.set_namespaces(Some(namespaces));
    linux.set_uid_mappings(None);
    linux.set_gid_mappings(None);
    spec.set_linux(Some(linux));
    Ok(Some(identities))
}

fn place(id: &str, spec: &Spec, driver: cgroup::Driver) -> Result<Place, cgroup::Malformed> {
    let linux = spec.linux().as_ref();
    let request = linux.and_then(|linux| linux.cgroups_path().as_deref());
    let none = Annotations::new();
    let annotations = spec.annotations().as_ref().unwrap_or(&none);
    Place::of(id, request.and_then(Path::to_str), driver, annotations)
}

fn rewrite_for_guest(id: &str, spec: &mut Spec) {
    if let Some(mut root) = spec.root().clone() {
        root.set_path(Path::new(SHARE_PATH).join(id).join("rootfs"));
        spec.set_root(Some(root));
    }
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod tests;
