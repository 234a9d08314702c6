//! The processes that a guest could take over, looked at from outside: they
//! can open nothing, do little, and hold only what they were given.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use caisson_tests::leftovers::other_pids;
use caisson_tests::{Machine, Scene, stories};

stories![
    the_monitor_of_machines_is_confined.only(Machine::Kvm),
    the_file_server_is_confined,
    the_vsock_device_is_confined.only(Machine::Tcg),
    the_emulator_is_confined.only(Machine::Tcg).smoke(),
    the_containers_pid_leads_to_its_own_files_only,
];

/// One process, by its directory in /proc.
struct Process {
    pid: i32,
}

impl Process {
    fn called(name: &str) -> Self {
        let is_it = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
        };
        let found: Vec<i32> = other_pids().into_iter().filter(is_it).collect();
        assert_eq!(found.len(), 1, "processes called {name}: {found:?}");
        Self { pid: found[0] }
    }

    fn path(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.pid)
    }

    /// `name` of every thread's status.
    fn of_every_thread(&self, name: &str) -> BTreeSet<String> {
        let threads = fs::read_dir(self.path("task")).unwrap().flatten();
        let line = |status: String| {
            let line = status
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap_or_default()
                .to_owned();
            line.split_once(':').unwrap_or_default().1.trim().to_owned()
        };
        threads
            .map(|thread| line(fs::read_to_string(thread.path().join("status")).unwrap()))
            .collect()
    }

    fn assert_powerless(&self) {
        for set in ["CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"] {
            let none = BTreeSet::from([NO_CAPABILITIES.into()]);
            assert_eq!(self.of_every_thread(set), none, "{set}");
        }
    }

    /// A user and group that nobody else is, no account's and not root.
    #[track_caller]
    fn assert_own_user(&self) {
        let users = self.of_every_thread("Uid");
        assert_eq!(users, self.of_every_thread("Gid"));
        let users: Vec<u32> = users
            .iter()
            .flat_map(|line| line.split_whitespace())
            .map(|id| id.parse().unwrap())
            .collect();
        let first = users[0];
        assert!(users.iter().all(|user| *user == first), "{users:?}");
        assert!(OWN_USERS.contains(&first), "user {first}");
        assert_eq!(
            self.of_every_thread("Groups"),
            BTreeSet::from([String::new()])
        );
    }

    fn namespace(&self, kind: &str) -> PathBuf {
        fs::read_link(self.path(&format!("ns/{kind}"))).unwrap()
    }

    /// What its descriptors are: the kind for sockets and the like, the path for files.
    fn descriptors(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.path("fd")).unwrap().flatten();
        let kind = |target: String| match target.split_once(":[") {
            Some((kind, _)) => kind.to_owned(),
            None => target,
        };
        entries
            .map(|entry| {
                kind(
                    fs::read_link(entry.path())
                        .unwrap()
                        .to_string_lossy()
                        .into_owned(),
                )
            })
            .collect()
    }

    #[track_caller]
    fn assert_confined(&self, own_namespaces: &[&str]) {
        let all = |text: &str| BTreeSet::from([text.to_owned()]);
        assert_eq!(self.of_every_thread("Seccomp"), all("2"));
        assert_eq!(self.of_every_thread("NoNewPrivs"), all("1"));
        let here = Self {
            pid: nix::unistd::getpid().as_raw(),
        };
        for kind in own_namespaces {
            assert_ne!(
                self.namespace(kind),
                here.namespace(kind),
                "namespace {kind} is the host's"
            );
        }
        let given: Vec<String> = fs::read(self.path("environ"))
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .into_iter()
            .collect();
        assert!(given.iter().all(String::is_empty), "environment: {given:?}");
    }

    /// Its root has nothing that could be read or written.
    #[track_caller]
    fn assert_empty_root(&self) {
        let entries: Vec<_> = fs::read_dir(self.path("root"))
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        assert!(entries.is_empty(), "its root holds {entries:?}");
        let denied = fs::write(self.path("root/new"), "");
        assert!(denied.is_err(), "its root can be written");
    }

    /// What it holds, without what `allowed` names.
    #[track_caller]
    fn assert_descriptors(&self, allowed: &[&str]) {
        let other: Vec<String> = self
            .descriptors()
            .into_iter()
            .filter(|held| !allowed.iter().any(|word| held.starts_with(word)))
            .collect();
        assert!(other.is_empty(), "it holds {other:?} too");
    }
}

/// Those that `caisson-jail` gives out (`UNIQUE_IDS`).
const OWN_USERS: std::ops::Range<u32> = 0x7000_0000..0x7ff0_0000;
const NO_CAPABILITIES: &str = "0000000000000000";
/// What every process of a machine may hold.
const OF_A_MACHINE: &[&str] = &[
    "/dev/null",
    "pipe",
    "socket",
    "anon_inode",
    "/#",
    "/memfd:guest-memory",
];
const ALL_NAMESPACES: &[&str] = &["user", "mnt", "pid", "net", "ipc", "uts"];

fn the_monitor_of_machines_is_confined(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    let vmm = Process::called("caisson-vmm");
    vmm.assert_confined(ALL_NAMESPACES);
    vmm.assert_powerless();
    vmm.assert_own_user();
    vmm.assert_empty_root();
    vmm.assert_descriptors(OF_A_MACHINE);
    container.remove();
}

/// Its capabilities end at its own user namespace, where it needs them to act
/// for the owners of files, and so it has all users and is root's there and outside; its root is the share and nothing else.
fn the_file_server_is_confined(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    let server = Process::called("caisson-fs");
    server.assert_confined(ALL_NAMESPACES);
    let entries: Vec<_> = fs::read_dir(server.path("root"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(entries, [container.id.as_str()], "its root");
    let tree = format!("root/{}", container.id);
    let shared: BTreeSet<_> = fs::read_dir(server.path(&tree))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(shared, BTreeSet::from(["rootfs".into()]));
    server.assert_descriptors(&[OF_A_MACHINE, &["/memfd:spec", "/"]].concat());
    container.remove();
}

fn the_vsock_device_is_confined(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    let device = Process::called("caisson-vsock");
    device.assert_confined(ALL_NAMESPACES);
    device.assert_powerless();
    device.assert_own_user();
    device.assert_empty_root();
    device.assert_descriptors(OF_A_MACHINE);
    container.remove();
}

/// It is a program of the distribution, so its root holds what it is linked with and its
/// firmware, and nothing of this host's own.
fn the_emulator_is_confined(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    let qemu = Process::called("qemu-system-x86");
    qemu.assert_confined(&[ALL_NAMESPACES, &["cgroup"]].concat());
    qemu.assert_powerless();
    let entries: BTreeSet<_> = fs::read_dir(qemu.path("root"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    let allowed = BTreeSet::from(["lib", "lib64", "proc", "usr"].map(String::from));
    assert!(entries.is_subset(&allowed), "its root holds {entries:?}");
    for missing in [
        "etc",
        "home",
        "root",
        "var",
        "run",
        "proc/1",
        "proc/self/mem",
    ] {
        let path = qemu.path(&format!("root/{missing}"));
        assert!(fs::symlink_metadata(&path).is_err(), "it sees /{missing}");
    }
    let mounts = fs::read_to_string(qemu.path("mountinfo")).unwrap();
    for mount in mounts.lines() {
        let words: Vec<&str> = mount.split(' ').collect();
        assert!(words[5].starts_with("ro,nosuid,nodev"), "{mount}");
        let is_known = words[4] == "/"
            || [
                "/lib",
                "/usr/lib",
                "/usr/share/",
                "/usr/bin/qemu",
                "/proc/self/fd",
            ]
            .iter()
            .any(|known| words[4].starts_with(known));
        assert!(is_known, "{mount}");
    }
    let image = scene
        .settings
        .dist
        .canonicalize()
        .unwrap()
        .join("share/caisson/");
    qemu.assert_descriptors(&[OF_A_MACHINE, &["/dev/net/tun", image.to_str().unwrap()]].concat());
    container.remove();
}

/// Engines copy files by entering the mount namespace of a container's pid.
fn the_containers_pid_leads_to_its_own_files_only(scene: &Scene) {
    let volume = scene.path("volume");
    fs::create_dir(&volume).unwrap();
    let bundle = scene.bundle(&["sleep", "1000"]);
    bundle.with_mount(serde_json::json!({
        "destination": "/data", "type": "bind", "source": volume, "options": ["rbind"]
    }));
    let container = scene.started(&bundle);
    let root = PathBuf::from(format!("/proc/{}/root", container.pid));
    fs::write(root.join("copied-in"), "to the root").unwrap();
    fs::write(root.join("data/copied-in"), "to the volume").unwrap();
    assert_eq!(
        container
            .exec(&["cat", "/copied-in", "/data/copied-in"])
            .ok(),
        "to the rootto the volume"
    );
    assert!(!Path::new("/copied-in").exists());
    assert!(volume.join("copied-in").exists());
    let mounts = fs::read_to_string(format!("/proc/{}/mounts", container.pid)).unwrap();
    let places: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .collect();
    assert_eq!(places, ["/", "/data"], "{mounts}");
    container.remove();
}
