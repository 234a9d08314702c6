//! How large the machine is, and which kernel it boots.
//!
//! Config.json says so by `vm` (runtime-spec, config-vm.md), whose hardware part
//! the typed form lacks; else the container's limits do, else the defaults. The
//! machine of a pod is as large as annotations say that its containers will need.

use std::path::PathBuf;

use caisson_vmm::spec::MAX_MEM_MIB;
use oci_spec::runtime::LinuxResources;
use serde::Deserialize;
use serde_json::Value;

use crate::config::annotations::{CRI_PREFIX, Refused};
use crate::oci::plan::host_facts::HostFacts;

/// Memory that kernel, agent and page tables need beside the container's limit, in MiB.
pub const GUEST_OVERHEAD_MIB: u32 = 64;
/// Memory of a machine whose container has no limit, in MiB.
pub const DEFAULT_MEM_MIB: u32 = 512;
/// Virtual CPUs of a machine whose container has no quota, if the host has them.
pub const DEFAULT_VCPUS: u8 = 2;

/// A machine that can't be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not of the specification's form.
    #[error("config.json: vm")]
    Malformed(#[source] serde_json::Error),
    /// More than the administrator allows.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// `vm` of config.json, as far as it is applied.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ExecSpec {
    kernel: Option<Kernel>,
    hw_config: Hardware,
}

#[derive(Debug, Deserialize)]
struct Kernel {
    path: PathBuf,
}

/// Zero asks for nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Hardware {
    vcpus: u32,
    /// In bytes.
    memory: u64,
}

/// The size of one machine.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) vcpus: u8,
    pub(crate) mem_mib: u32,
    pub(crate) kernel: Option<PathBuf>,
    /// What the log says of limits that would make a larger machine than is allowed.
    pub(crate) cut: Option<String>,
}

impl Size {
    pub(crate) fn of(
        resources: Option<&LinuxResources>,
        config: &Value,
        facts: &HostFacts,
    ) -> Result<Self, Error> {
        let request = match config.get("vm").filter(|request| !request.is_null()) {
            Some(request) => ExecSpec::deserialize(request).map_err(Error::Malformed)?,
            None => ExecSpec::default(),
        };
        let bounds = &facts.bounds;
        let pod = Pod::of(config);
        let vcpus = match request.hw_config.vcpus {
            0 => default_vcpus(resources, facts).max(pod.vcpus.min(most_vcpus(facts))),
            vcpus => bounds.vcpus("vm.hwConfig.vcpus", vcpus)?,
        };
        let by_limit = wanted_mem_mib(resources, facts).max(pod.mem_mib);
        let (mem_mib, cut) = match request.hw_config.memory {
            0 => cut_to(bounds.max_mem_mib, by_limit),
            bytes => {
                let mem_mib = bounds.mem_mib("vm.hwConfig.memory", bytes, GUEST_OVERHEAD_MIB)?;
                (mem_mib, None)
            }
        };
        let kernel = request.kernel.map(|kernel| bounds.kernel(kernel.path));
        Ok(Self {
            vcpus,
            mem_mib,
            kernel: kernel.transpose()?,
            cut,
        })
    }
}

fn most_vcpus(facts: &HostFacts) -> u8 {
    facts.cpus.min(facts.bounds.max_vcpus).max(1)
}

fn cut_to(max_mem_mib: u32, wanted_mib: u32) -> (u32, Option<String>) {
    if wanted_mib <= max_mem_mib {
        return (wanted_mib, None);
    }
    let line = format!(
        "the machine gets {max_mem_mib} MiB of memory, as much as `max_mem_mib` of the configuration or the host allows, and not the {wanted_mib} MiB that its limit is worth"
    );
    (max_mem_mib, Some(line))
}

/// What Kubernetes announces of a whole pod with its sandbox; zero is nothing.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pod {
    vcpus: u8,
    mem_mib: u32,
}

impl Pod {
    /// Of the annotations that containerd's CRI plugin makes.
    fn of(config: &Value) -> Self {
        let annotation = |name: &str| {
            let value = &config["annotations"][format!("{CRI_PREFIX}{name}")];
            value.as_str().unwrap_or_default()
        };
        let number = |name: &str| annotation(name).parse::<u64>().unwrap_or(0);
        if annotation("container-type") != "sandbox" {
            return Self::default();
        }
        let quota = number("sandbox-cpu-quota");
        let vcpus = quota.div_ceil(number("sandbox-cpu-period").max(1));
        let mem_mib = match number("sandbox-memory") {
            0 => 0,
            bytes => u32::try_from(bytes.div_ceil(1 << 20))
                .unwrap_or(MAX_MEM_MIB)
                .saturating_add(GUEST_OVERHEAD_MIB),
        };
        Self {
            vcpus: u8::try_from(vcpus).unwrap_or(u8::MAX),
            mem_mib,
        }
    }
}

/// One vCPU for each begun CPU of the quota, but no more than the host, or the
/// set of CPUs the container is pinned to, has: threads beyond that only wait
/// for each other.
fn default_vcpus(resources: Option<&LinuxResources>, facts: &HostFacts) -> u8 {
    let cpu = resources.and_then(|resources| resources.cpu().as_ref());
    let pinned = cpu
        .and_then(|cpu| cpu.cpus().as_deref())
        .and_then(count_of_set);
    let host = most_vcpus(facts).min(pinned.unwrap_or(u8::MAX)).max(1);
    let default = facts.default_vcpus.unwrap_or(DEFAULT_VCPUS).clamp(1, host);
    let Some((quota, period)) =
        cpu.and_then(|cpu| Some((cpu.quota()?, cpu.period().unwrap_or(100_000))))
    else {
        return default;
    };
    match u64::try_from(quota) {
        Ok(quota) if quota > 0 && period > 0 => u8::try_from(quota.div_ceil(period))
            .unwrap_or(u8::MAX)
            .clamp(1, host),
        _ => default,
    }
}

/// How many CPUs a set such as `0-3,7` names; none for what is no set, which the
/// host's cgroup refuses.
fn count_of_set(set: &str) -> Option<u8> {
    let mut count = 0_u32;
    for part in set
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        count = count.saturating_add(last.checked_sub(first)?.saturating_add(1));
    }
    u8::try_from(count).ok().filter(|count| *count > 0)
}

/// The limit plus what the guest itself needs; the exact limit is the guest cgroup's.
fn wanted_mem_mib(resources: Option<&LinuxResources>, facts: &HostFacts) -> u32 {
    let limit = resources
        .and_then(|resources| resources.memory().as_ref()?.limit())
        .and_then(|bytes| u64::try_from(bytes).ok())
        .filter(|bytes| *bytes > 0);
    let default = facts.default_mem_mib.unwrap_or(DEFAULT_MEM_MIB);
    let wanted = match limit {
        Some(bytes) => u32::try_from(bytes.div_ceil(1 << 20))
            .unwrap_or(MAX_MEM_MIB)
            .saturating_add(GUEST_OVERHEAD_MIB),
        None => default,
    };
    wanted.max(GUEST_OVERHEAD_MIB)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pods_machine_has_room_for_all_its_containers() {
        let annotations = json!({
            "io.kubernetes.cri.container-type": "sandbox",
            "io.kubernetes.cri.sandbox-memory": "1073741824",
            "io.kubernetes.cri.sandbox-cpu-quota": "250000",
            "io.kubernetes.cri.sandbox-cpu-period": "100000",
        });
        let pod = Pod::of(&json!({"annotations": annotations}));
        let mem_mib = 1024 + GUEST_OVERHEAD_MIB;
        assert_eq!(pod, Pod { vcpus: 3, mem_mib });
        assert_eq!(Pod::of(&json!({"annotations": {}})), Pod::default());
    }
}
