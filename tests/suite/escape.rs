//! Ways out that a container with all capabilities tries from inside its machine, and
//! what the configuration of a container could open: each ends at the guest, or at
//! what the container was given.
//!
//! Owns the attacks on files, devices and memory; `vsock` has those on the way to the
//! host, `taken_over` those of helpers.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use caisson_tests::{Bundle, Scene, stories};
use serde_json::json;

stories![
    a_bind_of_the_hosts_kernel_is_refused_however_it_is_spelled,
    a_bind_of_everything_has_nothing_of_the_hosts_kernel,
    names_and_links_end_at_the_container,
    shares_keep_their_limits_whatever_the_guest_mounts,
    the_guests_own_devices_are_all_there_is,
    floods_of_output_stay_small_on_the_host.limit(300),
    bombs_end_in_the_guest.limit(300),
];

const ALL_CAPABILITIES: &[&str] = &[
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// Gives the attacker everything that `--privileged` of engines does.
fn all_powerful(bundle: Bundle) -> Bundle {
    bundle.privileged();
    let all: Vec<String> = ALL_CAPABILITIES
        .iter()
        .map(|name| format!("CAP_{name}"))
        .collect();
    bundle.edit(|config| {
        for set in ["bounding", "effective", "permitted", "inheritable"] {
            config["process"]["capabilities"][set] = json!(all);
        }
        config["process"]["noNewPrivileges"] = json!(false);
    });
    bundle
}

fn a_bind_of_the_hosts_kernel_is_refused_however_it_is_spelled(scene: &Scene) {
    let everything = scene.path("everything");
    symlink("/", &everything).unwrap();
    let directly = scene.path("directly");
    symlink("/proc", &directly).unwrap();
    let sources = [
        everything.join("proc"),
        everything.join("proc/sys/kernel"),
        everything.join("sys"),
        everything.join("sys/kernel"),
        everything.join("dev"),
        everything.join("dev/null"),
        everything.join("dev/pts"),
        directly,
    ];
    for source in sources {
        let bundle = scene.shell("echo 321 >/ev/1/oom_score_adj; echo ran");
        bundle.with_mount(json!({
            "destination": "/ev", "type": "bind", "source": source, "options": ["rbind"]
        }));
        let output = scene.run(&bundle);
        assert_ne!(output.code, 0, "{output:?}");
        assert!(
            output.stderr.contains("shows the host's kernel"),
            "{output:?}"
        );
        assert_eq!(output.stdout, "");
    }
}

fn a_bind_of_everything_has_nothing_of_the_hosts_kernel(scene: &Scene) {
    for options in [
        json!(["rbind"]),
        json!(["rbind", "ro"]),
        json!(["rbind", "rro"]),
    ] {
        let script = "ls -A /host/proc /host/sys /host/dev | grep -v : | grep . ; \
            test -d /host/etc && echo the rest; \
            echo 321 >/host/proc/self/oom_score_adj || echo refused; \
            mount -t tmpfs none /host/proc && umount /host/proc; \
            umount /host/proc; ls -A /host/proc";
        let bundle = all_powerful(scene.shell(script));
        bundle.with_mount(json!({
            "destination": "/host", "type": "bind", "source": "/", "options": options
        }));
        let output = scene.run(&bundle);
        assert_eq!(
            output.stdout, "the rest\nrefused\n",
            "{options}: {output:?}"
        );
    }
}

fn names_and_links_end_at_the_container(scene: &Scene) {
    let outside = scene.path("outside");
    fs::write(&outside, "a secret of the host").unwrap();
    let rootfs = scene.rootfs();
    for (number, target) in [
        outside.display().to_string(),
        format!("../../{}", outside.display()),
    ]
    .iter()
    .enumerate()
    {
        symlink(target, rootfs.join(format!("tmp/link{number}"))).unwrap();
    }
    let script = format!(
        "cat /tmp/link0 /tmp/link1 /../../../../{outside} /proc/1/root/{outside}; \
         mkdir -p /tmp/deep/er && cd /tmp/deep/er && cat ../../../../../../{outside}; \
         ls /.. | sort | tr '\\n' ' '",
        outside = outside.display()
    );
    let output = scene.run(&all_powerful(scene.shell(&script)));
    assert_eq!(
        output.stdout, "bin dev etc proc root sys tmp ",
        "{output:?}"
    );
}

fn shares_keep_their_limits_whatever_the_guest_mounts(scene: &Scene) {
    let kept = scene.path("kept");
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("file"), "as it was").unwrap();
    let script = "mount -o remount,rw /kept; mount -o remount,rw,bind /kept; \
        echo changed >/kept/file; rm /kept/file; touch /kept/new; \
        ln /bin/busybox /kept/busybox; \
        mknod /tmp/disk b 8 0; mknod /tmp/memory c 1 1; \
        setfattr -n trusted.x -v y /tmp 2>/dev/null; \
        mknod /tmp/pipe p && echo a pipe; \
        cat /kept/file";
    let bundle = all_powerful(scene.shell(script));
    bundle.with_mount(json!({
        "destination": "/kept", "type": "bind", "source": kept, "options": ["rbind", "rro"]
    }));
    let output = scene.run(&bundle);
    assert_eq!(output.stdout, "a pipe\nas it was", "{output:?}");
    let left: Vec<_> = fs::read_dir(&kept).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(!scene.rootfs().join("tmp/disk").exists());
    assert!(!scene.rootfs().join("tmp/memory").exists());
}

fn the_guests_own_devices_are_all_there_is(scene: &Scene) {
    let script = "mount -t devtmpfs none /tmp; cd /tmp; \
        for name in mem kvm vhost-vsock vhost-net sda vda nvme0 fuse-host; do \
        test -e $name && echo $name; done; echo looked";
    let output = scene.run(&all_powerful(scene.shell(script)));
    assert_eq!(output.stdout, "looked\n", "{output:?}");
}

/// Memory of the process, in KiB.
fn resident_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.unwrap().split_whitespace().nth(1);
    number.unwrap().parse().unwrap()
}

/// What an owner may grow by, whatever its guest sends, in KiB: two directions of a
/// dozen streams with their buffers.
const MAX_GROWTH_KIB: u64 = 8 * 1024;

fn floods_of_output_stay_small_on_the_host(scene: &Scene) {
    let script = "dd if=/dev/zero of=/dev/ttyS0 bs=64k count=64 2>/dev/null; \
        for i in $(seq 2000); do echo flood >/dev/kmsg; done 2>/dev/null; \
        touch /tmp/flooded; exec sleep 1000";
    let container = scene.started(&all_powerful(scene.shell(script)));
    let before = resident_kib(container.pid);
    let unread: Vec<_> = (0..4)
        .map(|_| {
            let mut command = scene.command(["exec", &container.id, "cat", "/dev/zero"]);
            // Nobody reads.
            let child = command.stdout(Stdio::piped()).stderr(Stdio::null());
            child.spawn().unwrap()
        })
        .collect();
    caisson_tests::wait::for_file(&scene.rootfs().join("tmp/flooded"));
    assert_eq!(container.exec(&["echo", "there"]).ok(), "there\n");
    let after = resident_kib(container.pid);
    assert!(
        after < before + MAX_GROWTH_KIB,
        "{before} KiB, then {after}"
    );
    for mut child in unread {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    container.remove();
}

fn bombs_end_in_the_guest(scene: &Scene) {
    let bundle = scene.bundle(&["sleep", "1000"]);
    bundle.with_resource("memory", json!({"limit": 64 << 20}));
    bundle.with_resource("pids", json!({"limit": 64}));
    let container = scene.started(&bundle);
    let memory = container.exec(&["probe", "memory", "256"]);
    assert_ne!(memory.code, 0, "{memory:?}");
    let fork = "bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 1";
    let forks = container.exec(&["--user", "1000:1000", "sh", "-c", fork]);
    drop(forks);
    let processes = container.verb("ps", &["--format", "json"]);
    processes.ok();
    container.remove();
}
