//! Memory, and the limits that this process passes on to the VMs it starts.

use crate::doctor::{Finding, HostView};
use crate::oci::plan::DEFAULT_MEM_MIB;

/// What the processes of a VM map beside the guest's memory.
const BESIDE_GUEST_MIB: u64 = 256;
/// What caisson-fs asks for: it holds files open that guests remember.
const WANTED_FILES: u64 = 1_000_000;
/// Less stops a VM: descriptors of devices, queues and threads.
const FEWEST_FILES: u64 = 1024;

fn default_mem_mib(host: &HostView) -> u64 {
    let configured = host.installation.config.default_mem_mib;
    configured.unwrap_or(DEFAULT_MEM_MIB).into()
}

fn in_mib(limit: Option<u64>) -> String {
    limit.map_or_else(
        || "unlimited".into(),
        |bytes| format!("{} MiB", bytes >> 20),
    )
}

pub(super) fn memory(host: &HostView) -> Finding {
    let of = |key| {
        let text = host.value_of("/proc/meminfo", key)?;
        let kib: u64 = text.split_whitespace().next()?.parse().ok()?;
        Some(kib >> 10)
    };
    let (Some(total), Some(available)) = (of("MemTotal"), of("MemAvailable")) else {
        return Finding::warn("/proc/meminfo can't be read", "mount -t proc proc /proc");
    };
    let wanted = default_mem_mib(host);
    let evidence = format!(
        "{available} of {total} MiB available; a container without a limit has {wanted} MiB"
    );
    if available >= wanted {
        return Finding::ok(evidence);
    }
    Finding::warn(
        format!("{evidence}: a busy guest may be killed for lack of memory"),
        "set `default_mem_mib` lower in the configuration, limit containers, or free memory",
    )
}

pub(super) fn address_space(host: &HostView) -> Finding {
    let limit = host.limits.address_space;
    let wanted = (default_mem_mib(host) + BESIDE_GUEST_MIB) << 20;
    let evidence = format!("RLIMIT_AS is {}", in_mib(limit));
    if limit.is_none_or(|limit| limit >= wanted) {
        return Finding::ok(evidence);
    }
    Finding::fail(
        format!("{evidence}, and a VM maps {} MiB", wanted >> 20),
        "ulimit -v unlimited (a service: LimitAS=infinity)",
    )
}

pub(super) fn locked_memory(host: &HostView) -> Finding {
    let limit = in_mib(host.limits.locked_memory);
    Finding::ok(format!(
        "not used: caisson locks no memory (RLIMIT_MEMLOCK is {limit})"
    ))
}

pub(super) fn open_files(host: &HostView) -> Finding {
    let limit = host.limits.open_files;
    let shown = limit.map_or_else(|| "unlimited".into(), |limit| limit.to_string());
    let evidence = format!("the hard limit of RLIMIT_NOFILE is {shown}");
    let fix = "ulimit -Hn 1048576 (a service: LimitNOFILE=1048576)";
    match limit {
        Some(limit) if limit < FEWEST_FILES => {
            Finding::fail(format!("{evidence}: a VM needs {FEWEST_FILES}"), fix)
        }
        // Root's helpers raise it themselves.
        Some(limit) if limit < WANTED_FILES && host.account.uid != 0 => Finding::warn(
            format!("{evidence}: a guest that remembers more files than that gets errors"),
            fix,
        ),
        _ => Finding::ok(evidence),
    }
}

pub(super) fn huge_pages(host: &HostView) -> Finding {
    let file = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
    let fix = format!("echo advise > {file}");
    match host.text(file) {
        None => Finding::warn(
            "the kernel has no transparent huge pages: VMs start with more page faults",
            "boot a kernel with CONFIG_TRANSPARENT_HUGEPAGE=y",
        ),
        Some(text) if text.contains("[deny]") => Finding::warn(
            format!("{file} is deny: VMs start with more page faults"),
            fix,
        ),
        // The file system of guest memory allows them for itself.
        Some(text) if host.account.uid == 0 => {
            Finding::ok(format!("guest memory may have them; {file}: {text}"))
        }
        Some(text) if text.contains("[never]") => Finding::warn(
            format!(
                "{file} is never, and an ordinary user can't mount what allows them: VMs start with more page faults"
            ),
            fix,
        ),
        Some(text) => Finding::ok(format!("{file}: {text}")),
    }
}
