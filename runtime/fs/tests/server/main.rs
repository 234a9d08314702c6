//! The server as a process: what /proc tells about it while it waits for work,
//! how it ends, and what it answers to a guest. No machine is needed. Needs root.
//!
//! - `harness`: a server and what it serves
//! - `guest`: a guest's memory, rings and requests
//! - `requests`: requests that are wrong, one by one
//! - `random`: requests that are wrong by chance
//! - `holding`: guests that hold too much
#![expect(clippy::unwrap_used, reason = "tests")]

mod guest;
mod harness;
mod holding;
mod random;
mod requests;

use std::fs;
use std::path::{Path, PathBuf};

use caisson_jail::detached::Access;
use harness::{Export, Server, host_directory, socket_pair};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount,
};

#[test]
fn shares_are_the_only_things_in_its_root() {
    let host = host_directory();
    let server = Server::start(vec![
        Export::directory(
            &host.path().join("rootfs"),
            "web1/rootfs",
            Access::AsMounted,
        ),
        Export::file(&host.path().join("file"), "web1/mounts/0", Access::ReadOnly),
    ]);
    server.wait_until_ready();
    let root = server.proc("root");
    assert_eq!(names(&root), ["web1"]);
    assert_eq!(names(&root.join("web1")), ["mounts", "rootfs"]);
    assert_eq!(
        fs::read_to_string(root.join("web1/mounts/0")).unwrap(),
        "content"
    );
    fs::write(root.join("web1/rootfs/new"), "x").unwrap();
    assert_eq!(
        fs::read_to_string(host.path().join("rootfs/new")).unwrap(),
        "x"
    );
    let refused = fs::write(root.join("web1/mounts/0"), "x").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

/// It may be a file system of the host's kernel.
#[test]
fn what_the_host_mounts_later_does_not_arrive() {
    let host = host_directory();
    let rootfs = host.path().join("rootfs");
    let outer = TestMount::shared_bind(&rootfs);
    fs::create_dir(rootfs.join("volume")).unwrap();
    let server = Server::start(vec![Export::directory(
        &rootfs,
        "web1/rootfs",
        Access::AsMounted,
    )]);
    server.wait_until_ready();
    let seen = server.proc("root/web1/rootfs/volume/file");
    let volume = TestMount::tmpfs(&rootfs.join("volume"));
    fs::write(rootfs.join("volume/file"), "late").unwrap();
    assert!(rootfs.join("volume/file").exists());
    assert!(!seen.exists());
    drop((volume, outer));
}

#[test]
fn every_thread_is_filtered_and_without_rights_on_the_host() {
    let server = Server::start(vec![]);
    server.wait_until_ready();
    for kind in ["user", "mnt", "net", "ipc", "uts", "cgroup"] {
        let ours = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(
            fs::read_link(server.proc(&format!("ns/{kind}"))).unwrap(),
            ours,
            "{kind}"
        );
    }
    let threads = names(&server.proc("task"));
    assert!(threads.len() >= 3, "{threads:?}");
    for thread in threads {
        let status = server.proc("task").join(thread).join("status");
        let status = fs::read_to_string(status).unwrap();
        assert_eq!(field(&status, "Seccomp"), "2");
        assert_eq!(field(&status, "NoNewPrivs"), "1");
        assert_eq!(field(&status, "CapBnd"), "0000000000000000");
        // CHOWN DAC_OVERRIDE FOWNER FSETID SETGID SETUID SETFCAP, of its own
        // user namespace.
        assert_eq!(field(&status, "CapPrm"), "00000000800000db");
    }
}

#[test]
fn no_descriptor_of_the_host_stays_open() {
    let host = host_directory();
    let directory = Export::directory(
        &host.path().join("rootfs"),
        "web1/rootfs",
        Access::AsMounted,
    );
    let server = Server::start(vec![directory]);
    server.wait_until_ready();
    let mut targets: Vec<String> = names(&server.proc("fd"))
        .iter()
        .filter(|number| number.parse::<u32>().unwrap() >= 3)
        .map(|number| fs::read_link(server.proc("fd").join(number)).unwrap())
        .map(|target| target.to_string_lossy().into_owned())
        .filter(|target| !target.starts_with("socket:") && !target.starts_with("anon_inode:"))
        .collect();
    targets.sort();
    // Its root, and the detached /proc/self/fd, which shows as its own root.
    assert_eq!(targets, ["/", "/"]);
}

#[test]
fn it_ends_well_when_the_machine_disconnects() {
    let mut server = Server::start(vec![]);
    server.wait_until_ready();
    drop(server.machine.take());
    assert!(server.child.wait().unwrap().success());
    assert_eq!(server.diagnostics(), "");
}

#[test]
fn a_writable_mount_is_refused_where_read_only_was_promised() {
    let host = host_directory();
    let mut export = Export::directory(
        &host.path().join("rootfs"),
        "web1/rootfs",
        Access::AsMounted,
    );
    export.promised_read_only = true;
    let mut server = Server::start(vec![export]);
    assert_eq!(server.child.wait().unwrap().code(), Some(1));
    assert_eq!(
        server.diagnostics(),
        "served tree: web1/rootfs can be written to\n"
    );
}

#[test]
fn a_malformed_spec_is_one_line() {
    let (listener, machine) = socket_pair();
    let mut server = Server::with_spec(b"{", vec![(4, listener)], machine);
    assert_eq!(server.child.wait().unwrap().code(), Some(1));
    let line = server.diagnostics();
    assert!(
        line.starts_with("spec: malformed spec: EOF while parsing"),
        "{line}"
    );
    assert_eq!(line.lines().count(), 1);
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status
        .lines()
        .find(|line| line.starts_with(&format!("{name}:")))
        .unwrap();
    line.split_once(':').unwrap().1.trim()
}

/// A mount on the host; unmounted when dropped.
struct TestMount(PathBuf);

impl TestMount {
    fn shared_bind(path: &Path) -> Self {
        mount_bind(path, path).unwrap();
        let mount = Self(path.into());
        mount_change(path, MountPropagationFlags::SHARED).unwrap();
        mount
    }

    fn tmpfs(path: &Path) -> Self {
        rustix::mount::mount("tmpfs", path, "tmpfs", MountFlags::empty(), c"size=16m").unwrap();
        Self(path.into())
    }
}

impl Drop for TestMount {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}
