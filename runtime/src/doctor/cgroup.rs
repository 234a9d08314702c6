//! The host's cgroups: their version, whether this user may make some, and with which
//! controllers.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::cgroup::{Hierarchy, Host, Version};
use crate::doctor::host::words_of;
use crate::doctor::{Finding, HostView};

/// What the limits of containers need.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];
const DELEGATE: &str = "have systemd delegate: `systemctl edit user@.service`, write `[Service]` and `Delegate=cpu cpuset io memory pids` into it, then log in again";

fn find(host: &HostView) -> Host {
    let read = |file| host.text(file).unwrap_or_default();
    Host::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
}

pub(super) fn version(host: &HostView) -> Finding {
    let found = find(host);
    let Some(first) = found.hierarchies.first() else {
        return refused(
            host,
            "no cgroup file system is mounted",
            "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
        );
    };
    let own = first.own.display();
    match found.version {
        Version::V2 => Finding::ok(format!("version 2; this process is in {own}")),
        Version::V1 if host.account.is_rootless => Finding::warn(
            format!("version 1, which can't be delegated to a user; this process is in {own}"),
            "boot with `systemd.unified_cgroup_hierarchy=1`; without it limits hold in the guest alone",
        ),
        Version::V1 => Finding::ok(format!(
            "version 1, {} hierarchies; this process is in {own}",
            found.hierarchies.len()
        )),
    }
}

/// What stops root's containers costs a user only limits on the host: an engine names a
/// cgroup for root, and a user's container goes without one.
fn refused(host: &HostView, evidence: &str, fix: &str) -> Finding {
    if host.account.is_rootless {
        let evidence = format!("{evidence}: containers have no cgroup on the host");
        return Finding::warn(evidence, fix);
    }
    let evidence = format!("{evidence}: no container starts for which an engine names a cgroup");
    Finding::fail(evidence, fix)
}

/// Where a container's cgroup would be made.
fn parent(host: &HostView, found: &Host, hierarchy: &Hierarchy) -> PathBuf {
    match (host.account.is_rootless, found.version) {
        (false, _) => hierarchy.mount.clone(),
        (true, Version::V2) => hierarchy.own_parent().to_owned(),
        (true, Version::V1) => hierarchy.own.clone(),
    }
}

pub(super) fn writable(host: &HostView) -> Finding {
    let found = find(host);
    let directories: Vec<PathBuf> = found
        .hierarchies
        .iter()
        .map(|hierarchy| parent(host, &found, hierarchy))
        .collect();
    if directories.is_empty() {
        return Finding::ok("nothing to write to: see cgroup-version");
    }
    for directory in &directories {
        if let Err(err) = (host.calls.may_write)(&host.path(directory)) {
            let evidence = format!("{}: {reason}", directory.display(), reason = words_of(&err));
            return refused(host, &evidence, fix_of(host, directory, err.kind()));
        }
    }
    let names: Vec<String> = directories
        .iter()
        .map(|directory| directory.display().to_string())
        .collect();
    Finding::ok(format!("writable: {}", names.join(" ")))
}

fn fix_of(host: &HostView, directory: &Path, kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ReadOnlyFilesystem if host.is_container() => {
            "start this container with `--privileged` or `--security-opt writable-cgroups=true`"
        }
        ErrorKind::ReadOnlyFilesystem if directory.starts_with("/sys/fs/cgroup") => {
            "mount -o remount,rw /sys/fs/cgroup (version 1: each directory below it)"
        }
        ErrorKind::ReadOnlyFilesystem => "remount it with `mount -o remount,rw`",
        _ if host.account.is_rootless => {
            "use a session of systemd (log in, or `loginctl enable-linger`), and `--systemd-cgroup`"
        }
        _ => "run as root of the host's first user namespace, or with `--cgroup-manager disabled`",
    }
}

/// Controllers that exist where a container's cgroup would be made.
fn present(host: &HostView, found: &Host) -> Vec<String> {
    let of_version_2 = |hierarchy: &Hierarchy| {
        let directory = parent(host, found, hierarchy);
        let text = host.text(directory.join("cgroup.controllers"));
        let text = text.unwrap_or_default();
        let words = text.split_whitespace().map(str::to_owned);
        words.collect::<Vec<String>>()
    };
    let all = found.hierarchies.iter();
    match found.version {
        Version::V2 => all.flat_map(of_version_2).collect(),
        // Version 1's name of `io`.
        Version::V1 => all
            .flat_map(|hierarchy| hierarchy.controllers.clone())
            .map(|name| name.replace("blkio", "io"))
            .collect(),
    }
}

/// Returns what is there and what is missing.
fn compare(host: &HostView, found: &Host) -> (String, Vec<&'static str>) {
    let present = present(host, found);
    let has = |name: &&str| present.iter().any(|other| other == name);
    let missing = CONTROLLERS.iter().copied().filter(|name| !has(name));
    (present.join(" "), missing.collect())
}

pub(super) fn controllers(host: &HostView) -> Finding {
    if host.account.is_rootless {
        return Finding::ok("of root's containers only: see cgroup-delegation");
    }
    let found = find(host);
    if found.hierarchies.is_empty() {
        return Finding::ok("none is mounted: see cgroup-version");
    }
    let (present, missing) = compare(host, &found);
    if missing.is_empty() {
        return Finding::ok(format!("has {present}"));
    }
    Finding::warn(
        format!(
            "has {present}; missing: {}: the host keeps no limit of these kinds, the guest does",
            missing.join(" ")
        ),
        "boot without `cgroup_disable=` of these, or with a kernel that has them",
    )
}

pub(super) fn delegation(host: &HostView) -> Finding {
    if !host.account.is_rootless {
        return Finding::ok("not used: root needs no delegation");
    }
    let found = find(host);
    let Some(hierarchy) = found
        .hierarchies
        .first()
        .filter(|_| found.version == Version::V2)
    else {
        return Finding::ok("nothing is delegated without version 2: see cgroup-version");
    };
    let directory = parent(host, &found, hierarchy);
    if let Err(err) = (host.calls.may_write)(&host.path(&directory)) {
        let evidence = format!(
            "not delegated to {}: {}: {}",
            host.account.name,
            directory.display(),
            words_of(&err)
        );
        return Finding::warn(evidence, DELEGATE);
    }
    let (present, missing) = compare(host, &found);
    if missing.is_empty() {
        return Finding::ok(format!("delegated: {present}"));
    }
    let evidence = format!(
        "not delegated to {}: {}: the host keeps no limit of these kinds, the guest does",
        host.account.name,
        missing.join(" ")
    );
    Finding::warn(evidence, DELEGATE)
}
