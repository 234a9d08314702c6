//! The host's kernel: its version, its configuration where it is installed, seccomp, and
//! which security modules decide too.

use crate::doctor::{Finding, HostView};

/// The first with all calls of detached mounts (mount_setattr(2)).
const OLDEST: [u32; 2] = [5, 12];

/// Options that containers need, and what for; each may be a module.
const NEEDED: &[(&str, &str)] = &[
    ("CONFIG_KVM", "VMs"),
    ("CONFIG_TUN", "networks"),
    ("CONFIG_NET_SCH_INGRESS", "networks"),
    ("CONFIG_NET_CLS_U32", "networks"),
    ("CONFIG_NET_ACT_MIRRED", "networks"),
    ("CONFIG_USER_NS", "confining helpers"),
    ("CONFIG_SECCOMP_FILTER", "confining helpers"),
    ("CONFIG_EVENTFD", "devices"),
    ("CONFIG_MEMFD_CREATE", "guest memory"),
];

fn release(host: &HostView) -> String {
    host.text("/proc/sys/kernel/osrelease").unwrap_or_default()
}

/// The two numbers that a release begins with.
fn numbers(release: &str) -> Option<[u32; 2]> {
    let mut parts = release.split('.');
    let first = parts.next()?.parse().ok()?;
    let second: String = parts
        .next()?
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    Some([first, second.parse().ok()?])
}

pub(super) fn version(host: &HostView) -> Finding {
    let release = release(host);
    let [major, minor] = OLDEST;
    match numbers(&release) {
        Some(numbers) if numbers >= OLDEST => Finding::ok(format!("Linux {release}")),
        Some(_) => Finding::fail(
            format!(
                "Linux {release} is older than {major}.{minor}: files can't be shared with guests"
            ),
            format!("boot Linux {major}.{minor} or newer"),
        ),
        None => Finding::warn(
            format!("/proc/sys/kernel/osrelease has no version: {release:?}"),
            "mount -t proc proc /proc",
        ),
    }
}

pub(super) fn config(host: &HostView) -> Finding {
    let release = release(host);
    let places = [
        format!("/boot/config-{release}"),
        format!("/lib/modules/{release}/config"),
        format!("/usr/lib/modules/{release}/config"),
    ];
    let found = places
        .iter()
        .find_map(|place| Some((place, host.text(place)?)));
    let Some((place, text)) = found else {
        let packed = match host.exists("/proc/config.gz") {
            true => " (/proc/config.gz is compressed, and not read)",
            false => "",
        };
        return Finding::ok(format!(
            "not examined: no {}{packed}; other checks try what the kernel has",
            places[0]
        ));
    };
    let has = |option: &str| {
        let set = [format!("{option}=y"), format!("{option}=m")];
        text.lines().any(|line| set.iter().any(|set| line == set))
    };
    let missing: Vec<String> = NEEDED
        .iter()
        .filter(|(option, _)| !has(option))
        .map(|(option, purpose)| format!("{option} ({purpose})"))
        .collect();
    if missing.is_empty() {
        return Finding::ok(format!("{place} has all {} options", NEEDED.len()));
    }
    Finding::warn(
        format!("{place} lacks {}", missing.join(", ")),
        "boot a kernel with these options as y or m",
    )
}

pub(super) fn seccomp(host: &HostView) -> Finding {
    let fix = "boot a kernel with CONFIG_SECCOMP_FILTER=y";
    let Some(actions) = host.text("/proc/sys/kernel/seccomp/actions_avail") else {
        return Finding::fail(
            "the kernel has no seccomp filters: no helper of a VM starts",
            fix,
        );
    };
    let has = |name: &&str| actions.split_whitespace().any(|word| word == *name);
    let needed = ["kill_process", "errno", "allow"];
    match needed.iter().find(|name| !has(name)) {
        None => Finding::ok(format!("actions: {actions}")),
        Some(name) => Finding::fail(
            format!("seccomp has no action {name}: no helper of a VM starts"),
            fix,
        ),
    }
}

pub(super) fn security_modules(host: &HostView) -> Finding {
    let modules = host.text("/sys/kernel/security/lsm");
    if host.text("/sys/fs/selinux/enforce").as_deref() == Some("1") {
        return Finding::warn(
            "SELinux is enforcing: its policy has no rules for caisson, and may refuse /dev/kvm or a share",
            "look for denials with `ausearch -m avc -ts recent`; Podman: `caisson setup podman` gives containers the type that may use KVM",
        );
    }
    Finding::ok(match modules {
        Some(modules) if !modules.is_empty() => format!("active: {modules}"),
        _ => "none is seen (/sys/kernel/security/lsm)".into(),
    })
}
