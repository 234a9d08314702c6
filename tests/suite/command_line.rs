//! The command line as callers of runc use it.

use std::fs;
use std::time::{Duration, Instant};

use caisson_tests::{Scene, stories};
use serde_json::{Value, json};

stories![
    global_flags_have_one_dash_or_two,
    the_version_is_told_in_runcs_form,
    features_are_json_with_the_known_parts,
    spec_writes_a_configuration_once,
    ps_lists_the_guests_processes,
    ps_as_json_lists_the_hosts_processes_with_their_command_lines,
    console_prints_what_the_guests_kernel_reports,
    debug_tells_which_machine_and_why,
    help_is_a_verb_too,
    misuse_is_refused,
];

fn global_flags_have_one_dash_or_two(scene: &Scene) {
    let log = scene.path("log").display().to_string();
    let forms = [
        vec![
            "--debug",
            "--log",
            &log,
            "--log-format",
            "json",
            "--systemd-cgroup",
            "--rootless",
            "false",
        ],
        vec![
            "-debug",
            "-log",
            &log,
            "-log-format=json",
            "-systemd-cgroup",
            "-rootless=auto",
        ],
        vec![
            "--debug=true",
            "--log-format=text",
            "--cgroup-manager",
            "cgroupfs",
            "--rootless=true",
        ],
    ];
    for mut flags in forms {
        flags.extend(["list", "-quiet"]);
        scene.caisson(flags).ok();
    }
}

fn the_version_is_told_in_runcs_form(scene: &Scene) {
    for flag in ["--version", "-v", "-version"] {
        let output = scene.caisson([flag]).ok();
        let mut lines = output.lines();
        assert!(
            lines.next().unwrap().starts_with("caisson version "),
            "{output}"
        );
        assert!(lines.any(|line| line.starts_with("spec: 1.")), "{output}");
    }
}

fn features_are_json_with_the_known_parts(scene: &Scene) {
    let features: Value = serde_json::from_str(&scene.caisson(["features"]).ok()).unwrap();
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert_eq!(features["linux"]["cgroup"]["v2"], true);
    let options = features["mountOptions"].as_array().unwrap();
    assert!(options.contains(&json!("ro")) && options.contains(&json!("rbind")));
    let namespaces = features["linux"]["namespaces"].as_array().unwrap();
    assert!(namespaces.contains(&json!("pid")), "{namespaces:?}");
    assert!(
        features["linux"]["capabilities"]
            .as_array()
            .unwrap()
            .contains(&json!("CAP_SYS_ADMIN"))
    );
}

fn spec_writes_a_configuration_once(scene: &Scene) {
    let folder = scene.path("new");
    fs::create_dir(&folder).unwrap();
    let path = folder.to_str().unwrap();
    scene.caisson(["spec", "--bundle", path]).ok();
    let config: Value =
        serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["process"]["args"], json!(["sh"]));
    assert_eq!(config["root"], json!({"path": "rootfs", "readonly": true}));
    scene.caisson(["spec", "--bundle", path]).fails(
        1,
        &format!("file {path}/config.json exists; remove it first"),
    );
}

fn ps_lists_the_guests_processes(scene: &Scene) {
    let container = scene.started(&scene.shell("sleep 1000 & sleep 2000; true"));
    // The shell starts them in its own time.
    let both = "until [ $(ps | grep -c '[s]leep [12]000') = 3 ]; do sleep 0.1; done";
    container.exec(&["sh", "-c", both]).exits(0);
    let table = container.verb("ps", &[]).ok();
    let head: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(
        head,
        ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    );
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(
        table.contains(" sleep 1000\n") && table.contains(" sleep 2000\n"),
        "{table}"
    );
    container.remove();
}

fn ps_as_json_lists_the_hosts_processes_with_their_command_lines(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    let pid_file = scene.path("exec.pid");
    let path = pid_file.to_str().unwrap();
    let words = [
        "exec",
        "--detach",
        "--pid-file",
        path,
        &container.id,
        "sleep",
        "2000",
    ];
    scene.caisson(words).ok();
    let exec: i32 = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    let pids: Vec<i32> = serde_json::from_str(
        &scene
            .caisson(["ps", "--format", "json", &container.id])
            .ok(),
    )
    .unwrap();
    assert_eq!(pids, [container.pid, exec]);
    for (pid, command) in [(container.pid, "sleep 1000"), (exec, "sleep 2000")] {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        let line = line.trim_end_matches('\0').replace('\0', " ");
        assert!(line.ends_with(command), "{line}");
    }
    container.remove();
}

fn console_prints_what_the_guests_kernel_reports(scene: &Scene) {
    let bundle = scene.shell("echo '<0>reported by a test' >/dev/kmsg && echo done; sleep 1000");
    bundle.privileged().edit(|config| {
        config["linux"]["devices"] = json!([
            {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11},
        ]);
    });
    let container = scene.started(&bundle);
    let shown = || container.verb("console", &[]).ok();
    container
        .exec(&["sh", "-c", "echo '<0>second \u{1b}[31mline' >/dev/kmsg"])
        .ok();
    // The monitor reads the console beside its other work.
    let deadline = Instant::now() + Duration::from_secs(60);
    while !shown().contains("second") {
        assert!(Instant::now() < deadline, "{}", shown());
    }
    let lines = shown();
    assert!(lines.contains("reported by a test\n"), "{lines}");
    assert!(!lines.contains('\u{1b}'), "{lines:?}");
    container.verb("kill", &["KILL"]).ok();
    assert_eq!(container.wait(), 137);
    container
        .verb("console", &[])
        .fails(1, "container not running");
    container.delete();
    scene
        .caisson(["console", "none"])
        .fails(1, "container does not exist: none");
}

fn debug_tells_which_machine_and_why(scene: &Scene) {
    let log = scene.path("log");
    let bundle = scene.bundle(&["true"]);
    let arguments = [
        "--debug",
        "--log",
        log.to_str().unwrap(),
        "run",
        "--bundle",
        bundle.path.to_str().unwrap(),
        &bundle.id,
    ];
    scene.caisson(arguments).ok();
    let text = fs::read_to_string(log).unwrap();
    let wanted = format!("msg=\"machine {}", scene.settings.machine.name());
    assert!(
        text.contains("level=debug") && text.contains(&wanted),
        "{text}"
    );
}

fn help_is_a_verb_too(scene: &Scene) {
    let all = scene.caisson(["help"]).ok();
    assert_eq!(all, scene.caisson(["--help"]).ok());
    let one = scene.caisson(["help", "create"]).ok();
    assert_eq!(one, scene.caisson(["create", "--help"]).ok());
}

fn misuse_is_refused(scene: &Scene) {
    for arguments in [
        &["nonsense"][..],
        &["create"],
        &["list", "--format", "xml"],
        &["--nonsense", "list"],
    ] {
        let output = scene.caisson(arguments);
        output.exits(1);
        assert!(output.stderr.starts_with("error: "), "{output:?}");
    }
    scene
        .caisson(["--rootless", "maybe", "list"])
        .fails(1, "--rootless is true, false or auto, not \"maybe\"");
    scene
        .caisson(["--root", "/", "list"])
        .fails(1, "--root / is refused: name a directory of its own");
}
