//! What host and guest can do together (runtime-spec, features.md).
//!
//! Owns the form. What is told comes from where it is done: the table of
//! fields, the compiler of profiles, the agent's mount options.

use caisson_protocol::MOUNT_OPTIONS;
use serde_json::{Value, json};

use crate::config::annotations;
use crate::oci::fields::is_applied;
use crate::oci::memory_policy;
use crate::seccomp::{ACTIONS, ARCHITECTURES, KNOWN_FLAGS, OPERATORS, SUPPORTED_FLAGS};

/// The oldest configuration that is understood.
const OCI_VERSION_MIN: &str = "1.0.0";
/// The newest one.
pub const OCI_VERSION_MAX: &str = "1.3.0";

const HOOKS: &[&str] = &[
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// Namespaces of a container; the network's is the machine itself.
const NAMESPACES: &[&str] = &[
    "cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts",
];

/// The features document.
#[must_use]
pub fn features() -> Value {
    let hooks: Vec<&str> = HOOKS
        .iter()
        .copied()
        .filter(|hook| is_applied(&format!("hooks.{hook}")))
        .collect();
    json!({
        "ociVersionMin": OCI_VERSION_MIN,
        "ociVersionMax": OCI_VERSION_MAX,
        "hooks": hooks,
        "mountOptions": MOUNT_OPTIONS,
        "linux": linux(),
        "annotations": {
            "dev.caisson.version": env!("CARGO_PKG_VERSION"),
        },
        "potentiallyUnsafeConfigAnnotations": [annotations::MACHINE, annotations::GROUP, annotations::SYSTEMD_PREFIX],
    })
}

fn linux() -> Value {
    let capabilities: Vec<String> = caps::all().iter().map(ToString::to_string).collect();
    let enabled = |field: &str| json!({"enabled": is_applied(field)});
    json!({
        "namespaces": NAMESPACES,
        "capabilities": capabilities,
        // Of the host; the guest has version 2 alone.
        "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": false, "rdma": false},
        "seccomp": {
            "enabled": true,
            "actions": ACTIONS,
            "operators": OPERATORS,
            "archs": ARCHITECTURES,
            "knownFlags": KNOWN_FLAGS,
            "supportedFlags": SUPPORTED_FLAGS,
        },
        "apparmor": enabled("process.apparmorProfile"),
        "selinux": enabled("process.selinuxLabel"),
        "intelRdt": {
            "enabled": is_applied("linux.intelRdt.closID"),
            "schemata": is_applied("linux.intelRdt.schemata"),
            "monitoring": is_applied("linux.intelRdt.enableMonitoring"),
        },
        "memoryPolicy": {"modes": memory_policy::MODES, "flags": memory_policy::FLAGS},
        "mountExtensions": {"idmap": enabled("mounts[].uidMappings")},
        "netDevices": enabled("linux.netDevices"),
    })
}
