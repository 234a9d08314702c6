//! Whatever dies first, the container has stopped within two seconds, its
//! status is told, one line says why, and nothing is left.

use std::fs;
use std::time::Duration;

use caisson_tests::container::STOP_LIMIT;
use caisson_tests::leftovers::{other_pids, processes};
use caisson_tests::{Container, Machine, Scene, stories, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

stories![
    the_machine_is_killed,
    the_file_server_is_killed,
    the_monitor_is_killed,
    the_vsock_device_is_killed.only(Machine::Tcg),
    the_guest_kernel_panics,
    the_guests_first_process_is_killed,
    a_guest_that_hangs_is_killed_with_its_machine,
    an_exec_in_the_foreground_ends_with_its_machine,
    a_creation_whose_caller_is_killed_leaves_nothing,
];

/// More than a guest is allowed to take over it.
const KILL_LIMIT: Duration = Duration::from_secs(120);

const MOMENT: Duration = Duration::from_millis(1);

/// The only process of this program in the test's namespace.
fn pid_of(name: &str) -> i32 {
    let is_it = |pid: &i32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let program = command
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default()
            .to_vec();
        String::from_utf8_lossy(&program).ends_with(name)
    };
    let found: Vec<i32> = other_pids().into_iter().filter(is_it).collect();
    assert_eq!(
        found.len(),
        1,
        "processes called {name}: {:#?}",
        processes()
    );
    found[0]
}

fn machine_program(scene: &Scene) -> &'static str {
    match scene.settings.machine {
        Machine::Kvm => "caisson-vmm",
        Machine::Tcg => "qemu-system-x86_64",
    }
}

fn sleeping(scene: &Scene) -> Container<'_> {
    scene.started(&scene.bundle(&["sleep", "1000"]))
}

/// Checks the container's end as callers see it, and returns the one error line.
fn assert_ended(scene: &Scene, container: &Container<'_>) -> String {
    assert_eq!(container.wait_briefly(), 137);
    container.assert_status("stopped");
    container.delete();
    scene.assert_nothing_is_left();
    let said = container.stderr();
    let line = said.trim_end_matches('\n');
    assert!(!line.contains('\n'), "more than one line: {said}");
    assert!(
        line.contains("level=error") && line.contains(&container.id),
        "{said:?}"
    );
    line.to_owned()
}

fn kill_hard(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

fn the_machine_is_killed(scene: &Scene) {
    let container = sleeping(scene);
    kill_hard(pid_of(machine_program(scene)));
    let line = assert_ended(scene, &container);
    assert!(
        line.contains(machine_program(scene)) && line.contains("SIGKILL"),
        "{line}"
    );
}

fn the_file_server_is_killed(scene: &Scene) {
    let container = sleeping(scene);
    kill_hard(pid_of("caisson-fs"));
    let line = assert_ended(scene, &container);
    assert!(
        line.contains("caisson-fs ended") && line.contains("SIGKILL"),
        "{line}"
    );
}

fn the_vsock_device_is_killed(scene: &Scene) {
    let container = sleeping(scene);
    kill_hard(pid_of("caisson-vsock"));
    let line = assert_ended(scene, &container);
    assert!(
        line.contains("caisson-vsock ended") && line.contains("SIGKILL"),
        "{line}"
    );
}

/// Nobody is left to write a line; the status is the signal's.
fn the_monitor_is_killed(scene: &Scene) {
    let container = sleeping(scene);
    kill_hard(container.pid);
    assert_eq!(container.wait_briefly(), 137);
    container.assert_status("stopped");
    container
        .verb("kill", &["KILL"])
        .fails(1, "container not running");
    container.delete();
}

fn the_guest_kernel_panics(scene: &Scene) {
    let bundle =
        scene.shell("echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger; sleep 1000");
    bundle.privileged();
    let container = scene.create(&bundle);
    container.start();
    let line = assert_ended(scene, &container);
    assert!(line.contains("guest kernel panicked"), "{line}");
    assert!(
        line.contains("sysrq triggered crash"),
        "the console's last lines are missing: {line}"
    );
}

/// A machine that is stopped answers as little as a guest that has been taken over.
fn a_guest_that_hangs_is_killed_with_its_machine(scene: &Scene) {
    let container = sleeping(scene);
    let machine = Pid::from_raw(pid_of(machine_program(scene)));
    kill(machine, Signal::SIGSTOP).unwrap();
    container.assert_status("running");
    container.verb("kill", &["KILL"]).ok();
    assert!(wait::ends_within(container.pid, KILL_LIMIT));
    let line = assert_ended(scene, &container);
    assert!(line.contains("after SIGKILL"), "{line}");
}

/// The kernel refuses signals to its init from inside, so it is made to run
/// out of memory with everything else: the agent dies or the kernel panics.
fn the_guests_first_process_is_killed(scene: &Scene) {
    let bundle = scene.shell("echo 1 >/proc/sys/kernel/sysrq; for i in 1 2 3; do echo i >/proc/sysrq-trigger; done; sleep 1000");
    bundle.privileged();
    let container = scene.create(&bundle);
    container.start();
    assert_eq!(container.wait(), 137);
    container.assert_status("stopped");
    container.delete();
}

fn an_exec_in_the_foreground_ends_with_its_machine(scene: &Scene) {
    let container = sleeping(scene);
    let ready = scene.rootfs().join("tmp/ready");
    let mut exec = scene
        .command([
            "exec",
            &container.id,
            "sh",
            "-c",
            ": >/tmp/ready; sleep 1000",
        ])
        .spawn()
        .unwrap();
    wait::for_file(&ready);
    kill_hard(pid_of(machine_program(scene)));
    assert!(wait::ends_within(exec.id().try_into().unwrap(), STOP_LIMIT));
    assert_eq!(exec.wait().unwrap().code(), Some(137));
    let _line = assert_ended(scene, &container);
}

/// At any stage of it: what nobody was told of, nobody will put away.
fn a_creation_whose_caller_is_killed_leaves_nothing(scene: &Scene) {
    let bundle = scene.bundle(&["sleep", "1000"]);
    for after_ms in [
        1, 5, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 200, 300, 400, 500, 600, 700, 800, 1000,
    ] {
        scene.note(&format!("after {after_ms} ms"));
        let path = bundle.path.to_str().unwrap();
        let mut create = scene
            .command(["create", "--bundle", path, &bundle.id])
            .spawn()
            .unwrap();
        let _ended = wait::ends_within(create.id().cast_signed(), MOMENT * after_ms);
        create.kill().unwrap();
        create.wait().unwrap();
        // What got as far as being created is there, like any other.
        let deleted = scene.command(["delete", "--force", &bundle.id]).output();
        assert!(deleted.unwrap().status.success());
        scene.assert_nothing_is_left();
    }
}
