//! `Bundle`: a config.json that a test changes, and its root file system.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// A bundle on disk and the name its container will get.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// Name for the container.
    pub id: String,
    /// Directory with config.json.
    pub path: PathBuf,
    /// Root file system on the host.
    pub rootfs: PathBuf,
}

impl Bundle {
    /// Changes config.json.
    pub fn edit(&self, change: impl FnOnce(&mut Value)) -> &Self {
        let path = self.path.join("config.json");
        let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        fs::write(&path, serde_json::to_vec_pretty(&config).unwrap()).unwrap();
        self
    }

    /// Gives the process a terminal.
    pub fn with_terminal(&self) -> &Self {
        self.edit(|config| config["process"]["terminal"] = true.into())
    }

    /// Adds a mount.
    pub fn with_mount(&self, mount: Value) -> &Self {
        self.edit(|config| config["mounts"].as_array_mut().unwrap().push(mount))
    }

    /// Sets one member of `linux.resources`.
    pub fn with_resource(&self, name: &str, value: Value) -> &Self {
        self.edit(|config| config["linux"]["resources"][name] = value)
    }

    /// Has the container live in a network namespace that is there already.
    pub fn in_network(&self, path: &Path) -> &Self {
        self.edit(|config| {
            let all = config["linux"]["namespaces"].as_array_mut().unwrap();
            let mut network = all.iter_mut().filter(|one| one["type"] == "network");
            network.next().unwrap()["path"] = json!(path);
        })
    }

    /// Gives the process all of root's rights in the guest.
    pub fn privileged(&self) -> &Self {
        let all: Vec<String> = caps().iter().map(|name| format!("CAP_{name}")).collect();
        self.edit(|config| {
            for set in ["bounding", "effective", "permitted", "inheritable"] {
                config["process"]["capabilities"][set] = json!(all);
            }
            config["linux"]["maskedPaths"] = json!([]);
            config["linux"]["readonlyPaths"] = json!([]);
            config["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
        })
    }
}

/// The capabilities that tests need; not all that exist.
const fn caps() -> &'static [&'static str] {
    &[
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_ADMIN",
        "SETGID",
        "SETUID",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_RESOURCE",
        "SYS_RAWIO",
    ]
}
