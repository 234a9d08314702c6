//! From the kernel's first user process to a machine in which containers can be
//! made: modules, file systems, a root that can be pivoted away from, `lo`.
//!
//! Owns the order: what the connection to the host needs comes first, because the host
//! waits for the connection.

use std::{
    fs::{self, File},
    path::Path,
};

use caisson_protocol::{SHARE_PATH, SHARE_TAG};
use rustix::{
    fs::{Mode, OFlags, open},
    mount::{MountFlags, mount, mount_move},
    process::{chdir, chroot},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
    system::{finit_module, sethostname},
};

use crate::{
    cache_reclaim, cgroup,
    failure::{Attempt, Failure},
    network,
    sys::bring_loopback_up,
};

/// Prepares what the connection to the host needs.
///
/// # Errors
/// The first step that the kernel refuses.
pub fn before_connecting() -> Result<(), Failure> {
    load_modules()?;
    leave_initramfs()?;
    mount_at("devtmpfs", "/dev", MountFlags::NOSUID, c"mode=0755")?;
    reserve_standard_streams()
}

/// Prepares what containers need, while the host accepts the agent's connection.
///
/// # Errors
/// The first step that the kernel refuses.
pub fn before_containers() -> Result<(), Failure> {
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_at("proc", "/proc", plain, c"")?;
    mount_at("sysfs", "/sys", plain, c"")?;
    for directory in ["/dev/pts", "/dev/shm", SHARE_PATH, ROOTFS_POINT] {
        fs::create_dir_all(directory).at("create", directory)?;
    }
    let no_exec = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount_at(
        "devpts",
        "/dev/pts",
        no_exec,
        c"mode=0620,gid=5,ptmxmode=0666",
    )?;
    mount_at(
        "tmpfs",
        "/dev/shm",
        MountFlags::NOSUID | MountFlags::NODEV,
        c"mode=1777",
    )?;
    mount_at("cgroup2", cgroup::ROOT, plain, c"")?;
    cgroup::enable_controllers()?;
    sethostname(b"caisson").step("set hostname")?;
    bring_loopback_up().step("bring lo up")?;
    network::unbind_devices()?;
    disable_proactive_compaction();
    mount_share()?;
    cache_reclaim::start()
}

/// Proactive compaction scans memory twice a second, and every wake-up of an idle guest
/// costs the host several exits.
fn disable_proactive_compaction() {
    // A kernel without compaction lacks the setting.
    fs::write("/proc/sys/vm/compaction_proactiveness", "0").unwrap_or_default();
}

fn mount_share() -> Result<(), Failure> {
    let flags = MountFlags::NODEV;
    mount(SHARE_TAG, SHARE_PATH, "virtiofs", flags, c"").at("mount the share at", SHARE_PATH)
}

fn mount_at(
    kind: &str,
    point: &str,
    flags: MountFlags,
    options: &std::ffi::CStr,
) -> Result<(), Failure> {
    mount(kind, point, kind, flags, options).at("mount", point)
}

/// A distribution's kernel has its drivers as modules, listed in load order.
fn load_modules() -> Result<(), Failure> {
    let Ok(order) = fs::read_to_string("/modules/order") else {
        return Ok(());
    };
    for name in order.lines().map(str::trim).filter(|name| !name.is_empty()) {
        let path = Path::new("/modules").join(name);
        let module = File::open(&path).at("open", &path)?;
        match finit_module(&module, c"", 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(errno).at("load", &path),
        }
    }
    Ok(())
}

/// The kernel's first root can't be pivoted away from, so the agent moves to one
/// that can. Containers then leave it by pivot_root.
fn leave_initramfs() -> Result<(), Failure> {
    let new = "/root";
    fs::create_dir_all(new).at("create", new)?;
    mount("root", new, "tmpfs", MountFlags::empty(), c"mode=0755").at("mount", new)?;
    chdir(new).at("enter", new)?;
    for directory in ["dev", "proc", "sys", "run", "tmp"] {
        fs::create_dir(directory).at("create", directory)?;
    }
    mount_move(".", "/").at("move", new)?;
    chroot(".").at("enter", new)?;
    chdir("/").at("enter", "/")
}

/// Without a console the kernel starts the agent with no descriptors at all, and the
/// first three to be opened would be taken for the standard streams.
fn reserve_standard_streams() -> Result<(), Failure> {
    let null = open("/dev/null", OFlags::RDWR, Mode::empty()).at("open", "/dev/null")?;
    dup2_stdin(&null).step("set standard input")?;
    dup2_stdout(&null).step("set standard output")?;
    dup2_stderr(&null).step("set standard error")
}

/// Where each container's mount namespace has its root before it is pivoted to.
pub const ROOTFS_POINT: &str = "/run/caisson/rootfs";
