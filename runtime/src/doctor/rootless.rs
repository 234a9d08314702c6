//! What an ordinary user's containers need of the host beside KVM: ids and user namespaces.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::doctor::{Finding, HostView};
use crate::host::identity;

/// What containers of images usually have.
const USUAL_IDS: u32 = 65_536;
/// Set-user-ID, chmod(2).
const SET_ID_BIT: u32 = 0o4000;

/// Whether this user needs ids of others at all.
fn is_ordinary(host: &HostView) -> bool {
    host.account.uid != 0
}

pub(super) fn mappers(host: &HostView) -> Finding {
    if !is_ordinary(host) {
        return Finding::ok("not used: root maps ids itself");
    }
    let mut evidence = Vec::new();
    for name in ["newuidmap", "newgidmap"] {
        let Some(path) = host.find_program(name) else {
            return Finding::warn(
                format!(
                    "{name} not found on PATH: containers have one id alone, the user's own as root"
                ),
                "apt install uidmap (Fedora, openSUSE: shadow-utils, shadow)",
            );
        };
        let is_privileged = fs::metadata(host.path(&path)).is_ok_and(|found| {
            let has_bit = found.permissions().mode() & SET_ID_BIT != 0 && found.uid() == 0;
            has_bit || has_capabilities(host, &path)
        });
        if !is_privileged {
            return Finding::warn(
                format!(
                    "{} is neither setuid root nor has file capabilities: it can't map ids",
                    path.display()
                ),
                format!("as root: chmod u+s {}", path.display()),
            );
        }
        evidence.push(path.display().to_string());
    }
    Finding::ok(evidence.join(", "))
}

fn has_capabilities(host: &HostView, path: &std::path::Path) -> bool {
    let mut value = [0_u8; 64];
    rustix::fs::getxattr(host.path(path), "security.capability", &mut value).is_ok()
}

pub(super) fn subordinate_ids(host: &HostView) -> Finding {
    if !is_ordinary(host) {
        return Finding::ok("not used: root has all ids");
    }
    let account = &host.account;
    let passwd = host.text("/etc/passwd").unwrap_or_default();
    let name = identity::login_name(&passwd, account.uid);
    let mut evidence = Vec::new();
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text = host.text(file).unwrap_or_default();
        let ranges = identity::ranges(&text, name, account.uid);
        let count = ranges
            .iter()
            .fold(0_u32, |sum, (_, count)| sum.saturating_add(*count));
        if count < USUAL_IDS {
            return Finding::warn(
                format!(
                    "{file} gives {} {count} ids: images with more users don't start",
                    account.name
                ),
                format!(
                    "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {} (a range that no line of /etc/subuid has yet)",
                    account.name
                ),
            );
        }
        evidence.push(format!("{file}: {count} ids"));
    }
    Finding::ok(evidence.join(", "))
}

pub(super) fn user_namespaces(host: &HostView) -> Finding {
    if !host.exists("/proc/self/ns/user") {
        return Finding::fail(
            "the kernel has no user namespaces: no helper of a VM can be confined",
            "boot a kernel with CONFIG_USER_NS=y",
        );
    }
    let most = host.text("/proc/sys/user/max_user_namespaces");
    if most.as_deref() == Some("0") {
        return Finding::fail(
            "user.max_user_namespaces is 0: no helper of a VM can be confined",
            "sysctl -w user.max_user_namespaces=15000",
        );
    }
    if is_ordinary(host) {
        for (file, refusing, key) in [
            (
                "/proc/sys/kernel/unprivileged_userns_clone",
                "0",
                "kernel.unprivileged_userns_clone=1",
            ),
            (
                "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
                "1",
                "kernel.apparmor_restrict_unprivileged_userns=0",
            ),
        ] {
            if host.text(file).as_deref() == Some(refusing) {
                return Finding::fail(
                    format!("{file} is {refusing}: an ordinary user's VM can't be confined"),
                    format!("as root: sysctl -w {key}"),
                );
            }
        }
    }
    let most = most.unwrap_or_else(|| "any number".into());
    Finding::ok(format!("allowed; at most {most} for each user"))
}
