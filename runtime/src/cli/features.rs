//! `features`: prints what this runtime can do (runtime-spec, features.md).

use serde_json::json;

use super::Outcome;

/// Print what this runtime can do, as JSON
#[derive(Debug, clap::Args)]
pub(super) struct Features {}

impl Features {
    #[expect(clippy::unused_self, reason = "every verb has the same form")]
    pub(super) fn run(self) -> Outcome {
        let features = json!({
            "ociVersionMin": "1.0.0",
            "ociVersionMax": "1.3.0",
            "hooks": [],
            "mountOptions": [
                "async", "atime", "bind", "defaults", "dev", "diratime", "dirsync", "exec",
                "noatime", "nodev", "nodiratime", "noexec", "norelatime", "nostrictatime",
                "nosuid", "nosymfollow", "private", "rbind", "relatime", "remount", "ro",
                "rprivate", "rshared", "rslave", "runbindable", "rw", "shared", "slave",
                "strictatime", "suid", "symfollow", "sync", "tmpcopyup", "unbindable",
            ],
            "linux": {
                "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"],
                "capabilities": capabilities(),
                "cgroup": {"v1": false, "v2": true, "systemd": false, "systemdUser": false, "rdma": false},
                "seccomp": {"enabled": false},
                "apparmor": {"enabled": false},
                "selinux": {"enabled": false},
                "intelRdt": {"enabled": false},
                "mountExtensions": {"idmap": {"enabled": false}},
                "netDevices": {"enabled": false},
            },
            "annotations": {
                "dev.caisson.version": env!("CARGO_PKG_VERSION"),
            },
            "potentiallyUnsafeConfigAnnotations": [crate::plan::MACHINE_ANNOTATION],
        });
        super::print(&format!("{}\n", serde_json::to_string_pretty(&features)?))
    }
}

fn capabilities() -> Vec<String> {
    caps::all()
        .iter()
        .map(|capability| capability.to_string())
        .collect()
}
