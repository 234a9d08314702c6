//! The config.json of a sandbox.
//!
//! Owns its mounts, limits and capabilities, which are those that engines give to a
//! container by default.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::error::Error;
use super::host_view::HostView;
use super::mount_namespace::{ROOTFS, layer_path};
use super::network::NAME_SERVER;
use super::request::Request;
use crate::config::annotations::ROOT_OVERLAY_MIB;
use crate::oci::features::OCI_VERSION_MAX;

/// As Docker's, without raw sockets.
const CAPABILITIES: [&str; 12] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Of a CPU quota, in µs: the kernel's default.
const PERIOD_US: u64 = 100_000;
/// Part of the memory that may hold files.
const OVERLAY_PART: i64 = 2;

/// Its name server, below the bundle.
const RESOLV_CONF: &str = "resolv.conf";

/// Writes it to `directory`.
pub(super) fn write(request: &Request, view: &HostView, directory: &Path) -> Result<(), Error> {
    if request.network.is_some() {
        let path = directory.join(RESOLV_CONF);
        let text = format!("nameserver {NAME_SERVER}\n");
        fs::write(&path, text).map_err(Error::step("write", &path))?;
    }
    let path = directory.join("config.json");
    let text = of(request, view, directory)?.to_string();
    fs::write(&path, text).map_err(Error::step("write", &path))
}

fn of(request: &Request, view: &HostView, directory: &Path) -> Result<Value, Error> {
    let arguments = request
        .command
        .iter()
        .map(|argument| text("argument", argument));
    let overlay_mib = ((request.memory_bytes / OVERLAY_PART) >> 20).clamp(1, 1 << 20);
    let mut resources = json!({
        "devices": [{"allow": false, "access": "rwm"}],
        "memory": {"limit": request.memory_bytes},
    });
    if let Some(millicpus) = request.millicpus {
        let quota_us = u64::from(millicpus) * PERIOD_US / 1000;
        resources["cpu"] = json!({"quota": quota_us, "period": PERIOD_US});
    }
    let namespaces = ["pid", "ipc", "uts", "mount", "cgroup"];
    let network = request.network.as_ref();
    let network = network.map_or_else(
        || json!({"type": "network"}),
        |path| json!({"type": "network", "path": path}),
    );
    let namespaces = namespaces.map(|kind| json!({"type": kind}));
    let namespaces: Vec<Value> = namespaces.into_iter().chain([network]).collect();
    Ok(json!({
        "ociVersion": OCI_VERSION_MAX,
        "process": {
            "terminal": request.terminal,
            "user": {"uid": 0, "gid": 0},
            "args": arguments.collect::<Result<Vec<_>, _>>()?,
            "env": environment(request)?,
            "cwd": text("working directory", view.working_directory.as_os_str())?,
            "capabilities": {
                "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
            },
            "noNewPrivileges": true,
        },
        "root": {"path": ROOTFS},
        "hostname": "sandbox",
        "mounts": mounts(request, view, directory)?,
        "annotations": {ROOT_OVERLAY_MIB: overlay_mib.to_string()},
        "linux": {
            "namespaces": namespaces,
            "resources": resources,
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }))
}

fn environment(request: &Request) -> Result<Vec<String>, Error> {
    let home = text("home directory", request.home.as_os_str())?;
    let mut all = vec![PATH.to_owned(), format!("HOME={home}")];
    for variable in &request.environment {
        let name = variable
            .split_once('=')
            .map_or(variable.as_str(), |(name, _)| name);
        // Programs take the first of a name.
        all.retain(|earlier| {
            earlier
                .split_once('=')
                .is_none_or(|(other, _)| other != name)
        });
        all.push(variable.clone());
    }
    Ok(all)
}

fn mounts(request: &Request, view: &HostView, directory: &Path) -> Result<Vec<Value>, Error> {
    let fresh = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    let plain = ["nosuid", "noexec", "nodev"];
    let tmpfs =
        |destination: &str, mode: &str| fresh(destination, "tmpfs", &["nosuid", "nodev", mode]);
    let system = view.system.iter().map(|path| bind(path, path, "rro"));
    let mut all = system.collect::<Result<Vec<_>, _>>()?;
    all.extend([
        fresh("/proc", "proc", &plain),
        fresh(
            "/dev",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        fresh(
            "/dev/pts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        fresh(
            "/dev/shm",
            "tmpfs",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        ),
        fresh("/dev/mqueue", "mqueue", &plain),
        fresh("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        fresh(
            "/sys/fs/cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "ro"],
        ),
        tmpfs("/run", "mode=755"),
        tmpfs("/tmp", "mode=1777"),
        tmpfs("/var/tmp", "mode=1777"),
    ]);
    for (number, layer) in view.further.iter().enumerate() {
        let source = directory.join(layer_path(number));
        all.push(bind(&layer.source, &source, "ro")?);
    }
    let is_opened = |home: &&Path| view.opened.iter().any(|open| home.starts_with(&open.path));
    if let Some(home) = request.own_home().filter(|home| !is_opened(home)) {
        let home = text("home directory", home.as_os_str())?;
        all.push(tmpfs(home, "mode=700"));
    }
    if request.network.is_some() {
        let source = directory.join(RESOLV_CONF);
        all.push(bind(Path::new("/etc/resolv.conf"), &source, "ro")?);
    }
    for open in &view.opened {
        let access = if open.is_writable { "rw" } else { "rro" };
        all.push(bind(&open.path, &open.path, access)?);
    }
    Ok(all)
}

fn bind(destination: &Path, source: &Path, access: &str) -> Result<Value, Error> {
    let destination = text("path", destination.as_os_str())?;
    let source = text("path", source.as_os_str())?;
    Ok(json!({
        "destination": destination, "type": "bind", "source": source,
        "options": ["rbind", "rprivate", "nosuid", "nodev", access],
    }))
}

fn text<'a>(what: &'static str, given: &'a OsStr) -> Result<&'a str, Error> {
    given.to_str().ok_or_else(|| Error::NotText {
        what,
        path: given.into(),
    })
}
