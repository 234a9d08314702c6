//! The bundle of a sandbox without an image: a configuration like that of a pause
//! container, made from containerd's configuration of the pod.
//!
//! Owns that configuration. The program of the bundle is `caisson-pause`, bound
//! into an empty root.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use containerd_shim_protos::sandbox_api::CreateSandboxRequest;
use protobuf::Message;
use protobuf::well_known_types::any::Any;
use serde_json::{Value, json};

use crate::error::Error;
use crate::paths;

/// Generated from `proto/pod.proto`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    unreachable_pub,
    reason = "generated"
)]
mod messages {
    include!(concat!(env!("OUT_DIR"), "/pod/mod.rs"));
}

use messages::pod::{
    LinuxContainerResources, LinuxPodSandboxConfig, NamespaceMode, PodSandboxConfig,
};

/// The message of the Container Runtime Interface, in whatever package.
const POD: &str = "PodSandboxConfig";
const PROGRAM: &str = "/pause";
/// Empty but for the places of mounts. containerd has its own directory `rootfs` in the
/// bundle, and doesn't delete a sandbox while that directory has entries.
const ROOT: &str = "root";
/// Every user of the sandbox may enter its root.
const ROOT_MODE: u32 = 0o755;

/// Writes the bundle of the sandbox that `request` describes; `pause` is its program.
pub(crate) fn write_bundle(
    request: &CreateSandboxRequest,
    namespace: &str,
    pause: &Path,
) -> Result<PathBuf, Error> {
    if !request.rootfs.is_empty() {
        let text = "rootfs: the sandbox has no image: its machine is all there is of it";
        return Err(Error::Invalid(text.to_owned()));
    }
    let pod = pod_of(request.options.as_ref())?;
    let bundle = PathBuf::from(&request.bundle_path);
    let config = configuration(request, &pod, namespace, pause)?;
    let root = bundle.join(ROOT);
    fs::create_dir_all(&root)
        .and_then(|()| fs::set_permissions(&root, fs::Permissions::from_mode(ROOT_MODE)))
        .and_then(|()| paths::write(&bundle.join("config.json"), config.to_string().as_bytes()))
        .map_err(|err| Error::step("write the sandbox's bundle", &err))?;
    Ok(bundle)
}

/// The pod's configuration; empty where a client sends none.
fn pod_of(options: Option<&Any>) -> Result<PodSandboxConfig, Error> {
    let Some(any) = options.filter(|any| !any.type_url.is_empty()) else {
        return Ok(PodSandboxConfig::default());
    };
    if any.type_url.rsplit(['/', '.']).next() != Some(POD) {
        let text = format!(
            "options of type {:?} are not known: a sandbox takes {POD}",
            any.type_url
        );
        return Err(Error::Invalid(text));
    }
    PodSandboxConfig::parse_from_bytes(&any.value)
        .map_err(|err| Error::step("read the pod's configuration", &err))
}

fn configuration(
    request: &CreateSandboxRequest,
    pod: &PodSandboxConfig,
    namespace: &str,
    pause: &Path,
) -> Result<Value, Error> {
    let linux = pod.linux.get_or_default();
    let id = &request.sandbox_id;
    let hostname = if pod.hostname.is_empty() {
        id
    } else {
        &pod.hostname
    };
    Ok(json!({
        "ociVersion": "1.2.0",
        "hostname": hostname,
        "process": {
            "args": [PROGRAM], "cwd": "/", "env": ["PATH=/"], "noNewPrivileges": true,
            "user": {"uid": 0, "gid": 0},
        },
        "root": {"path": ROOT, "readonly": true},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": PROGRAM, "type": "bind", "source": pause, "options": ["bind", "ro"]},
        ],
        "annotations": annotations(request, pod),
        "linux": {
            "namespaces": namespaces(request, linux)?,
            "cgroupsPath": cgroups_path(&linux.cgroup_parent, namespace, id),
            "sysctl": linux.sysctls,
        },
    }))
}

/// The pod's annotations, and containerd's own, from which the machine gets its size.
fn annotations(request: &CreateSandboxRequest, pod: &PodSandboxConfig) -> HashMap<String, String> {
    const CRI: &str = "io.kubernetes.cri";
    let linux = pod.linux.get_or_default();
    let LinuxContainerResources {
        cpu_period,
        cpu_quota,
        cpu_shares,
        memory_limit_in_bytes,
        ..
    } = linux.resources.get_or_default();
    let metadata = pod.metadata.get_or_default();
    let numbers = [
        ("sandbox-cpu-period", cpu_period),
        ("sandbox-cpu-quota", cpu_quota),
        ("sandbox-cpu-shares", cpu_shares),
        ("sandbox-memory", memory_limit_in_bytes),
    ];
    let numbers = numbers
        .into_iter()
        .filter(|(_, number)| **number > 0)
        .map(|(key, number)| (key, number.to_string()));
    let texts = [
        ("container-type", "sandbox"),
        ("sandbox-id", &request.sandbox_id),
        ("sandbox-name", &metadata.name),
        ("sandbox-namespace", &metadata.namespace),
        ("sandbox-uid", &metadata.uid),
    ];
    let texts = texts
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(key, text)| (key, text.to_owned()));
    let own = numbers
        .chain(texts)
        .map(|(key, value)| (format!("{CRI}.{key}"), value));
    request.annotations.clone().into_iter().chain(own).collect()
}

fn namespaces(
    request: &CreateSandboxRequest,
    linux: &LinuxPodSandboxConfig,
) -> Result<Vec<Value>, Error> {
    let options = linux.security_context.get_or_default();
    let network = options.namespace_options.get_or_default().network;
    if network.enum_value() == Ok(NamespaceMode::NODE) {
        let text = "the pod wants the host's network (hostNetwork): a machine has one of its own; leave it out, or publish ports";
        return Err(Error::Invalid(text.to_owned()));
    }
    let mut network = json!({"type": "network"});
    if !request.netns_path.is_empty() {
        network["path"] = json!(request.netns_path);
    }
    let others = ["pid", "ipc", "uts", "mount"].map(|kind| json!({"type": kind}));
    Ok(others.into_iter().chain([network]).collect())
}

/// Below a slice, a unit of systemd with the name that containerd gives it.
fn cgroups_path(parent: &str, namespace: &str, id: &str) -> String {
    match Path::new(parent).file_name().and_then(|name| name.to_str()) {
        Some(slice) if slice.ends_with(".slice") => format!("{slice}:cri-containerd:{id}"),
        _ if parent.is_empty() => format!("/{namespace}/{id}"),
        _ => format!("{}/{id}", parent.trim_end_matches('/')),
    }
}

#[cfg(test)]
#[path = "pod_test.rs"]
mod tests;
