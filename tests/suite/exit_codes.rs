//! The exit code of a container is that of its program, however it ended.

use caisson_tests::{Scene, stories};

stories![
    run_ends_with_the_programs_exit_code.smoke(),
    run_tells_the_guests_kernel.smoke(),
    a_program_killed_by_a_signal_is_128_plus_it,
    create_start_wait_ends_with_the_programs_exit_code.smoke(),
    exec_ends_with_the_programs_exit_code.smoke(),
    a_program_that_cannot_be_executed_is_named,
    a_program_that_the_kernel_refuses_is_255,
];

fn run_ends_with_the_programs_exit_code(scene: &Scene) {
    for code in [0, 1, 7] {
        let output = scene.run(&scene.shell(&format!("exit {code}")));
        output.exits(code);
        assert_eq!(
            (output.stdout, output.stderr),
            (String::new(), String::new())
        );
    }
}

fn run_tells_the_guests_kernel(scene: &Scene) {
    let host = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let guest = scene.run(&scene.bundle(&["uname", "-r"])).ok();
    assert_ne!(guest, host);
}

fn a_program_killed_by_a_signal_is_128_plus_it(scene: &Scene) {
    // A pid namespace's init gets no signal it has no handler for, so a child dies.
    for (signal, code) in [("TERM", 143), ("KILL", 137), ("SEGV", 139)] {
        let script = format!("sh -c 'kill -{signal} $$'; exit $?");
        scene.run(&scene.shell(&script)).exits(code);
    }
}

fn create_start_wait_ends_with_the_programs_exit_code(scene: &Scene) {
    for code in [0, 7] {
        let container =
            scene.started(&scene.shell(&format!("echo out; echo err >&2; exit {code}")));
        assert_eq!(container.wait(), code);
        assert_eq!(container.stdout(), "out\n");
        assert_eq!(container.stderr(), "err\n");
        container.assert_status("stopped");
        container.delete();
    }
}

fn exec_ends_with_the_programs_exit_code(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    for code in [0, 1, 7, 126, 127, 255] {
        container
            .exec(&["sh", "-c", &format!("exit {code}")])
            .exits(code);
    }
    container.exec(&["sh", "-c", "kill -TERM $$"]).exits(143);
    container.exec(&["sh", "-c", "kill -KILL $$"]).exits(137);
    container.remove();
}

fn a_program_that_cannot_be_executed_is_named(scene: &Scene) {
    let rootfs = scene.rootfs();
    std::fs::write(rootfs.join("plain"), "#!/bin/sh\n").unwrap();
    let cases = [
        ("nothing", "executable file not found in $PATH"),
        (
            "/bin/nothing",
            "stat /bin/nothing: no such file or directory",
        ),
        ("/plain", "permission denied"),
        ("/etc", "is a directory"),
    ];
    let sibling = scene.started(&scene.bundle(&["sleep", "1000"]));
    for (program, reason) in cases {
        let text = format!("exec: {program:?}: {reason}");
        scene.run(&scene.bundle(&[program])).fails(1, &text);
        sibling.exec(&[program]).fails(255, &text);
    }
    sibling.remove();
}

/// One that is found, but not executed: runc's own process, which should have become it,
/// ends with 255 then.
fn a_program_that_the_kernel_refuses_is_255(scene: &Scene) {
    let rootfs = scene.rootfs();
    let sibling = scene.started(&scene.bundle(&["sleep", "1000"]));
    std::fs::write(rootfs.join("text"), "hello\n").unwrap();
    std::fs::write(rootfs.join("orphan"), "#!/no/interpreter\n").unwrap();
    for (program, reason) in [
        ("/text", "exec format error"),
        ("/orphan", "no such file or directory"),
    ] {
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(rootfs.join(&program[1..]), executable).unwrap();
        let text = format!("exec {program}: {reason}");
        scene.run(&scene.bundle(&[program])).fails(255, &text);
        sibling.exec(&[program]).fails(255, &text);
    }
    sibling.remove();
}
