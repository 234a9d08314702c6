//! `spec`: writes a config.json to start from.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::{Outcome, failed};
use crate::oci::features::OCI_VERSION_MAX;

/// Write a config.json to start from
///
/// It runs a shell in a terminal, with few capabilities, on the directory rootfs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mkdir -p bundle/rootfs && caisson spec --bundle bundle")]
pub(super) struct Spec {
    /// Directory to write it to
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// For a user without root's rights
    #[arg(long)]
    rootless: bool,
}

impl Spec {
    pub(super) fn run(self) -> Outcome {
        let path = self.bundle.join("config.json");
        if path.exists() {
            return Err(format!("file {} exists; remove it first", path.display()).into());
        }
        let text = serde_json::to_string_pretty(&default_spec(self.rootless))?;
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            // Who may change it decides what is run.
            .mode(0o644)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(failed(format!("write {}", path.display())))?;
        Ok(0)
    }
}

/// What runc writes: a shell in a terminal, few capabilities, all namespaces.
fn default_spec(rootless: bool) -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mut namespaces = vec!["pid", "network", "ipc", "uts", "mount", "cgroup"];
    let mut linux = json!({
        "resources": {"devices": [{"allow": false, "access": "rwm"}]},
        "maskedPaths": [
            "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
            "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
            "/proc/scsi",
        ],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    });
    if rootless {
        namespaces.push("user");
        let id = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
        linux["uidMappings"] = id(nix::unistd::geteuid().as_raw());
        linux["gidMappings"] = id(nix::unistd::getegid().as_raw());
        linux["resources"] = json!({});
    }
    linux["namespaces"] = namespaces
        .iter()
        .map(|kind| json!({"type": kind}))
        .collect();
    json!({
        "ociVersion": OCI_VERSION_MAX,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "caisson",
        "mounts": mounts(),
        "linux": linux,
    })
}

fn mounts() -> Value {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": source, "options": options});
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_run() {
        for rootless in [false, true] {
            let spec = default_spec(rootless);
            crate::oci::fields::check(&spec).unwrap();
            serde_json::from_value::<oci_spec::runtime::Spec>(spec).unwrap();
        }
    }
}
