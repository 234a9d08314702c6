//! Real test hosts from start to end. Needs a saved state:
//! `CAISSON_OUTER_VM_STATE=$(tests/outer-vm/warm.sh) cargo test -- --ignored`.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process};
use std::thread;
use std::time::{Duration, Instant};

use caisson_commandd::{Command, TestHost};

fn state() -> PathBuf {
    std::env::var_os("CAISSON_OUTER_VM_STATE")
        .map(PathBuf::from)
        .unwrap_or_default()
}

fn start() -> TestHost {
    TestHost::start(&state()).unwrap()
}

fn start_with_owner() -> (TestHost, Child) {
    let owner = Process::new("sleep").arg("1000").spawn().unwrap();
    (
        TestHost::start_for(&state(), owner.id(), false).unwrap(),
        owner,
    )
}

fn run(host: &TestHost, script: &str) -> String {
    let output = host.client().run(&Command::shell(script)).unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
    output.text()
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        thread::park_timeout(Duration::from_millis(50));
    }
}

fn runs(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[test]
#[ignore = "needs a saved state"]
fn a_restored_host_has_kvm_cgroups_runtimes_and_the_time() {
    let host = start();
    assert!(run(&host, "cat /sys/fs/cgroup/cgroup.subtree_control").contains("pids"));
    run(
        &host,
        "test -c /dev/kvm && test -c /dev/vhost-vsock && test -d /sys/kernel/debug/kvm",
    );
    run(
        &host,
        "runc --version && crun --version && test -e /usr/libexec/virtiofsd",
    );
    let skew: i64 = run(&host, "date +%s").parse::<i64>().unwrap()
        - i64::try_from(
            std::time::SystemTime::UNIX_EPOCH
                .elapsed()
                .unwrap()
                .as_secs(),
        )
        .unwrap();
    assert!(skew.abs() <= 5, "clock is {skew} s off");
    assert_eq!(host.complaints().unwrap(), Vec::<String>::new());
    host.stop();
    assert!(!host.folder.exists());
}

#[test]
#[ignore = "needs a saved state"]
fn orphans_in_the_host_are_reaped() {
    let host = start();
    run(&host, "(setsid sh -c 'exit 3' &); (setsid true &)");
    let client = host.client();
    let zombies = Command::shell("ps -eo stat= | grep -c ^Z");
    eventually("no zombie is left", || {
        client.run(&zombies).unwrap().text() == "0"
    });
    host.stop();
}

#[test]
#[ignore = "needs a saved state"]
fn clones_share_nothing_and_trees_come_back_unchanged() {
    let (one, two) = (start(), start());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    one.client().put(&source, "/tree").unwrap();
    assert!(
        !two.client()
            .run(&Command::new(["test", "-e", "/tree"]))
            .unwrap()
            .status
            .success()
    );
    let copy = one.folder.join("copy");
    one.client().get("/tree", &copy).unwrap();
    let diff = Process::new("diff")
        .arg("-r")
        .args([&source, &copy])
        .status()
        .unwrap();
    assert!(diff.success());
    one.stop();
    two.stop();
}

#[test]
#[ignore = "needs a saved state"]
fn nothing_is_left_when_the_owner_is_killed() {
    let (host, mut owner) = start_with_owner();
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("the directory is removed", || !host.folder.exists());
    assert!(!runs(host.qemu_pid));
}

#[test]
#[ignore = "needs a saved state"]
fn a_killed_supervisor_takes_qemu_along_and_the_next_start_removes_its_folder() {
    let host = start();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", host.qemu_pid)).unwrap();
    let supervisor = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .nth(1)
        .unwrap();
    assert!(
        Process::new("kill")
            .args(["-9", supervisor])
            .status()
            .unwrap()
            .success()
    );
    eventually("qemu ends", || !runs(host.qemu_pid));
    start().stop();
    assert!(!host.folder.exists());
}

#[test]
#[ignore = "needs a saved state"]
fn a_panic_of_the_host_is_told() {
    let host = start();
    let crash = Command::shell("echo c >/proc/sysrq-trigger").timeout(Duration::from_secs(5));
    assert!(host.client().run(&crash).is_err());
    assert!(
        host.complaints()
            .unwrap()
            .iter()
            .any(|line| line.contains("Kernel panic"))
    );
    host.stop();
}
