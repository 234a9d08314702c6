//! The bad input of each verb: one clear refusal, the right exit code, and
//! nothing that was not there before.

use std::fs;

use caisson_tests::{Scene, stories};

stories![
    create_wants_a_name_a_bundle_and_sockets_that_are_there,
    start_wants_one_created_container,
    run_wants_what_create_wants,
    exec_wants_a_container_and_a_program,
    kill_wants_a_container_and_a_signal,
    delete_wants_a_container,
    state_wants_a_container,
    list_wants_a_known_format,
    ps_wants_a_container_and_known_options,
    pause_and_resume_want_a_container,
    update_wants_a_container_and_numbers,
    events_want_a_container_and_an_interval,
    features_want_nothing,
    spec_wants_a_folder_without_configuration,
    checkpoint_and_restore_are_refused_whatever_their_flags,
];

/// The parser refuses: unknown flags, missing or superfluous arguments.
#[track_caller]
fn misused(scene: &Scene, arguments: &[&str]) {
    let output = scene.caisson(arguments);
    output.exits(1);
    assert!(output.stderr.starts_with("error: "), "{output:?}");
    assert_eq!(output.stdout, "");
}

/// What every verb refuses that acts on one container.
#[track_caller]
fn wants_one_container(scene: &Scene, verb: &str) {
    misused(scene, &[verb]);
    misused(scene, &[verb, "--nonsense", "x"]);
    for (name, text) in [
        ("absent", "container does not exist: absent"),
        (
            "a/b",
            "invalid container ID format: \"a/b\" (letters, digits and _ + - . only)",
        ),
    ] {
        scene.caisson([verb, name]).fails(1, text);
    }
}

fn create_wants_a_name_a_bundle_and_sockets_that_are_there(scene: &Scene) {
    wants_a_bundle(scene, "create");
    let bundle = scene.bundle(&["true"]);
    let folder = bundle.path.to_str().unwrap();
    let output = scene.caisson([
        "create",
        "--bundle",
        folder,
        "--pidfd-socket",
        "/no/socket",
        &bundle.id,
    ]);
    output.fails(1, "send a pidfd to /no/socket: no such file or directory");
    let output = scene.caisson([
        "create",
        "--bundle",
        folder,
        "--console-socket",
        "/no/socket",
        &bundle.id,
    ]);
    output.fails(
        1,
        "cannot use console socket if the process has no terminal",
    );
}

#[track_caller]
fn wants_a_bundle(scene: &Scene, verb: &str) {
    misused(scene, &[verb]);
    misused(scene, &[verb, "a", "b"]);
    misused(scene, &[verb, "--preserve-fds", "many", "a"]);
    let text = "JSON specification file /nowhere/config.json not found";
    scene
        .caisson([verb, "-bundle", "/nowhere", "a"])
        .fails(1, text);
}

fn start_wants_one_created_container(scene: &Scene) {
    wants_one_container(scene, "start");
    misused(scene, &["start", "a", "b"]);
}

fn run_wants_what_create_wants(scene: &Scene) {
    wants_a_bundle(scene, "run");
    let bundle = scene.bundle(&["/no/program"]);
    let output = scene.run(&bundle);
    assert!(
        output.error_line(1).contains("no such file or directory"),
        "{output:?}"
    );
}

fn exec_wants_a_container_and_a_program(scene: &Scene) {
    misused(scene, &["exec"]);
    misused(scene, &["exec", "--nonsense", "x", "true"]);
    let absent = scene.caisson(["exec", "absent", "true"]);
    absent.fails(255, "container does not exist: absent");
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    let id = container.id.as_str();
    let refused = |arguments: &[&str]| {
        let output = scene.caisson([&["exec"], arguments].concat());
        output.error_line(255).to_owned()
    };
    for (arguments, reason) in [
        (&[id][..], "process args cannot be empty"),
        (
            &["--cgroup", "nowhere", id, "true"],
            "no such file or directory",
        ),
        (
            &["--cgroup", "../x", id, "true"],
            "../x is not a sub cgroup path",
        ),
        (
            &["--cgroup", "a", "--cgroup", "b", id, "true"],
            "invalid --cgroup argument: b",
        ),
        (&["--tty", "--detach", id, "true"], "console socket"),
    ] {
        let line = refused(arguments);
        assert!(line.contains(reason), "{arguments:?}: {line}");
    }
    container.assert_status("running");
    container.remove();
}

fn kill_wants_a_container_and_a_signal(scene: &Scene) {
    wants_one_container(scene, "kill");
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    for signal in ["NONSENSE", "65", "-1", "9.5"] {
        let text = format!("unknown signal {signal:?}");
        container.verb("kill", &[signal]).fails(1, &text);
    }
    // Whether there is a process, and nothing else.
    container.verb("kill", &["0"]).ok();
    container.assert_status("running");
    scene.caisson(["kill", "--all", &container.id, "KILL"]).ok();
    assert_eq!(container.wait(), 137);
    scene.caisson(["kill", "--all", &container.id, "KILL"]).ok();
    container.delete();
}

fn delete_wants_a_container(scene: &Scene) {
    wants_one_container(scene, "delete");
    scene.caisson(["delete", "--force", "absent"]).ok();
    misused(scene, &["delete", "a", "b"]);
}

fn state_wants_a_container(scene: &Scene) {
    wants_one_container(scene, "state");
}

fn list_wants_a_known_format(scene: &Scene) {
    misused(scene, &["list", "--format", "xml"]);
    misused(scene, &["list", "x"]);
}

fn ps_wants_a_container_and_known_options(scene: &Scene) {
    wants_one_container(scene, "ps");
    misused(scene, &["ps", "--format", "xml", "x"]);
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    let output = container.verb("ps", &["-Z"]);
    assert!(output.error_line(1).contains("\"-Z\""), "{output:?}");
    let output = container.verb("ps", &["-o", "pid,nonsense"]);
    assert!(output.error_line(1).contains("\"nonsense\""), "{output:?}");
    let table = container.verb("ps", &["-o", "ppid,args"]).ok();
    assert!(table.ends_with("sleep 1000\n"), "{table}");
    container.remove();
}

fn pause_and_resume_want_a_container(scene: &Scene) {
    wants_one_container(scene, "pause");
    wants_one_container(scene, "resume");
}

fn update_wants_a_container_and_numbers(scene: &Scene) {
    wants_one_container(scene, "update");
    misused(scene, &["update", "--memory"]);
}

fn events_want_a_container_and_an_interval(scene: &Scene) {
    wants_one_container(scene, "events");
    misused(scene, &["events", "--interval"]);
}

fn features_want_nothing(scene: &Scene) {
    misused(scene, &["features", "x"]);
}

fn spec_wants_a_folder_without_configuration(scene: &Scene) {
    misused(scene, &["spec", "x"]);
    let nowhere = scene.caisson(["spec", "--bundle", "/nowhere"]);
    assert!(
        nowhere.error_line(1).contains("no such file or directory"),
        "{nowhere:?}"
    );
    let folder = scene.path("spec");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("config.json"), "mine").unwrap();
    let refused = scene.caisson(["spec", "--bundle", folder.to_str().unwrap()]);
    assert!(refused.error_line(1).contains("exists"), "{refused:?}");
    let kept = fs::read_to_string(folder.join("config.json")).unwrap();
    assert_eq!(kept, "mine");
}

fn checkpoint_and_restore_are_refused_whatever_their_flags(scene: &Scene) {
    wants_one_container(scene, "checkpoint");
    misused(scene, &["restore"]);
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    let criu = [
        "--image-path",
        "/i",
        "--work-path",
        "/w",
        "--tcp-established",
        "--ext-unix-sk",
        "--shell-job",
        "--lazy-pages",
        "--file-locks",
        "--manage-cgroups-mode",
        "soft",
        "--empty-ns",
        "network",
        "--auto-dedup",
        "--link-remap",
        "--tcp-skip-in-flight",
    ];
    let own = [
        "--parent-path",
        "/p",
        "--leave-running",
        "--status-fd",
        "3",
        "--page-server",
        "host:1",
        "--pre-dump",
    ];
    let checkpoint = [&["checkpoint"][..], &criu, &own, &[&container.id]].concat();
    let own = [
        "-b",
        "/b",
        "--console-socket",
        "/c",
        "-d",
        "--pid-file",
        "/p",
        "--no-subreaper",
        "--no-pivot",
        "--lsm-profile",
        "p",
        "--lsm-mount-context",
        "c",
    ];
    let restore = [&["restore"][..], &criu, &own, &["other"]].concat();
    for arguments in [checkpoint, restore] {
        let output = scene.caisson(arguments);
        let line = output.error_line(1);
        assert!(
            line.starts_with("checkpoint and restore are not supported: "),
            "{line}"
        );
    }
    container.assert_status("running");
    container.remove();
}
