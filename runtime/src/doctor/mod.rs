//! Examining the host: what stops containers here, what costs something, and what to type.
//!
//! Owns what a check is and the list of all. A check reads a [`HostView`] and changes
//! nothing; what it needs of the runtime (how KVM is judged, the search for QEMU, the
//! rules of the state directory) is the runtime's own code. Printing is `report`'s.

mod cgroup;
mod clock;
mod cpu;
mod devices;
mod engines;
mod host;
mod installation;
mod kernel;
mod kvm;
mod limits;
mod platform;
pub mod report;
mod rootless;
mod storage;

use serde::Serialize;

pub use host::HostView;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// As it should be, or not needed here.
    Ok,
    /// Costs something, or stops what only some use.
    Warn,
    /// Stops containers, with the configuration that is in force.
    Fail,
}

/// What one check has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub verdict: Verdict,
    /// What was seen.
    pub evidence: String,
    /// What to type or change; none if nothing is wrong.
    pub fix: Option<String>,
}

impl Finding {
    fn ok(evidence: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Ok,
            evidence: evidence.into(),
            fix: None,
        }
    }

    fn warn(evidence: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Warn,
            evidence: evidence.into(),
            fix: Some(fix.into()),
        }
    }

    fn fail(evidence: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Fail,
            ..Self::warn(evidence, fix)
        }
    }
}

/// One question about the host.
#[derive(Debug)]
pub struct Check {
    /// By which `caisson doctor NAME` and error lines know it.
    pub name: &'static str,
    examine: fn(&HostView) -> Finding,
}

const fn check(name: &'static str, examine: fn(&HostView) -> Finding) -> Check {
    Check { name, examine }
}

/// All checks, in the order in which they are printed.
pub static CHECKS: &[Check] = &[
    check("configuration", installation::configuration),
    check("cpu-virtualization", cpu::virtualization),
    check("cpu-nesting", cpu::nesting),
    check("kvm-device", kvm::device),
    check("kvm-access", kvm::access),
    check("kvm-usable", kvm::usable),
    check("qemu", installation::qemu),
    check("helpers", installation::helpers),
    check("guest-kernel", installation::guest_kernel),
    check("image-hashes", installation::image_hashes),
    check("tun", devices::tun),
    check("vhost-net", devices::vhost_net),
    check("vhost-vsock", devices::vhost_vsock),
    check("userfaultfd", devices::userfaultfd),
    check("cgroup-version", cgroup::version),
    check("cgroup-write", cgroup::writable),
    check("cgroup-controllers", cgroup::controllers),
    check("cgroup-delegation", cgroup::delegation),
    check("newuidmap", rootless::mappers),
    check("subordinate-ids", rootless::subordinate_ids),
    check("user-namespaces", rootless::user_namespaces),
    check("memory", limits::memory),
    check("address-space", limits::address_space),
    check("locked-memory", limits::locked_memory),
    check("open-files", limits::open_files),
    check("huge-pages", limits::huge_pages),
    check("kernel-version", kernel::version),
    check("kernel-config", kernel::config),
    check("seccomp", kernel::seccomp),
    check("lsm", kernel::security_modules),
    check("state-directory", storage::state_directory),
    check("disk-space", storage::space),
    check("engine-docker", engines::docker),
    check("engine-podman", engines::podman),
    check("engine-containerd", engines::containerd),
    check("containerd-shim", engines::shim),
    check("clock", clock::time),
    check("clock-source", clock::source),
];

/// A name that no check has.
#[derive(Debug, thiserror::Error)]
#[error("no check is called {0:?}: `caisson doctor` lists them all")]
pub struct UnknownCheck(String);

/// A check that was run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// The check's name.
    pub name: &'static str,
    /// What it has found.
    pub finding: Finding,
}

/// Runs the checks of these names, all if there are none. A name also means the checks
/// that begin with it and a dash: `kvm` is all three of KVM.
///
/// # Errors
/// When no check has such a name.
pub fn examine(host: &HostView, names: &[String]) -> Result<Vec<Examined>, UnknownCheck> {
    let is_meant = |check: &Check, name: &str| {
        let rest = check.name.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let is_known = |name: &str| CHECKS.iter().any(|check| is_meant(check, name));
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        return Err(UnknownCheck(unknown.clone()));
    }
    let chosen = CHECKS
        .iter()
        .filter(|check| names.is_empty() || names.iter().any(|name| is_meant(check, name)));
    Ok(chosen
        .map(|check| Examined {
            name: check.name,
            finding: (check.examine)(host),
        })
        .collect())
}

#[cfg(test)]
mod doctor_test;
#[cfg(test)]
mod platform_test;
