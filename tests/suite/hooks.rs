//! Hooks of the host: when they run, where, with what, and what their failure means.
//!
//! The one kind that the guest runs, startContainer, is here too where the
//! order of all is looked at.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use caisson_tests::{Bundle, Scene, stories, wait};
use serde_json::{Value, json};

stories![
    every_kind_runs_in_its_turn_with_the_right_state,
    a_hook_has_its_own_environment_and_the_bundle_as_its_folder,
    runtime_hooks_stand_outside_of_the_containers_namespaces,
    the_container_sees_what_hooks_have_mounted,
    a_failing_hook_fails_the_creation_and_leaves_nothing,
    a_late_hook_is_killed,
    a_hook_that_cannot_be_executed_is_named,
    a_malformed_hook_is_named,
    a_failing_start_hook_stops_the_container,
    a_container_can_be_killed_in_its_start_hooks,
    a_failing_poststart_hook_deletes_the_container,
    a_failing_poststop_hook_is_told_and_the_rest_run,
];

fn shell(script: &str) -> Value {
    let path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    json!({"path": "/bin/sh", "args": ["sh", "-ec", script], "env": [path]})
}

fn set_hooks(bundle: &Bundle, kind: &str, hooks: &[Value]) {
    bundle.edit(|config| config["hooks"][kind] = json!(hooks));
}

/// What hooks have appended to the scene's log, a line each.
fn lines(log: &Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn log(scene: &Scene) -> PathBuf {
    scene.path("hooks.log")
}

fn appending(scene: &Scene, what: &str) -> Value {
    shell(&format!("{what} >>{}", log(scene).display()))
}

fn every_kind_runs_in_its_turn_with_the_right_state(scene: &Scene) {
    let bundle = scene.bundle(&["sleep", "1000"]);
    bundle.edit(|config| config["annotations"] = json!({"colour": "red"}));
    let kinds = [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ];
    for (kind, _) in kinds {
        let twice = [
            appending(scene, &format!("echo {kind} $(cat)")),
            appending(scene, &format!("echo {kind} again")),
        ];
        set_hooks(&bundle, kind, &twice);
    }
    let inside = "cat >/told; echo >>/told; cat /proc/1/comm >>/told";
    set_hooks(&bundle, "startContainer", &[shell(inside)]);
    let container = scene.create(&bundle);
    assert_eq!(lines(&log(scene)).len(), 6, "before the start");
    assert!(!scene.rootfs().join("told").exists(), "before the start");
    container.start();
    assert_eq!(lines(&log(scene)).len(), 8, "before the end");
    let pid = container.pid;
    container.remove();
    let lines = lines(&log(scene));
    assert_eq!(lines.len(), 10);
    let told = fs::read_to_string(scene.rootfs().join("told")).unwrap();
    let (state, text) = told.split_once('\n').unwrap();
    let state: Value = serde_json::from_str(state).unwrap();
    let expected = json!({
        "ociVersion": "1.3.0", "id": bundle.id, "status": "created", "pid": 1,
        "bundle": bundle.path, "annotations": {"colour": "red"},
    });
    assert_eq!(state, expected);
    assert_ne!(text, "sleep\n", "before the program");
    for (pair, (kind, status)) in lines.chunks(2).zip(kinds) {
        let (name, state) = pair[0].split_once(' ').unwrap();
        let state: Value = serde_json::from_str(state).unwrap();
        assert_eq!((name, &state["status"]), (kind, &json!(status)));
        assert_eq!(state["id"], json!(bundle.id));
        assert_eq!(state["bundle"], json!(bundle.path));
        assert_eq!(state["annotations"], json!({"colour": "red"}));
        assert_eq!(state["ociVersion"], "1.3.0");
        let expected = if kind == "poststop" {
            Value::Null
        } else {
            json!(pid)
        };
        assert_eq!(state["pid"], expected, "{kind}");
        assert_eq!(pair[1], format!("{kind} again"));
    }
}

fn a_hook_has_its_own_environment_and_the_bundle_as_its_folder(scene: &Scene) {
    let bundle = scene.bundle(&["true"]);
    // Without any variable of its own, what a shell makes up is not looked at.
    let script = format!(
        "pwd >{0}; tr '\\0' '\\n' </proc/self/environ >>{0}",
        log(scene).display()
    );
    let path = "PATH=/usr/bin:/bin";
    let hook =
        json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["A=1", path, "B=x=y"]});
    set_hooks(&bundle, "createRuntime", &[hook]);
    scene.run(&bundle).ok();
    let mut lines = lines(&log(scene));
    assert_eq!(lines.remove(0), bundle.path.display().to_string());
    lines.retain(|line| !line.starts_with("PWD=") && !line.starts_with("_="));
    lines.sort();
    assert_eq!(lines, ["A=1", "B=x=y", path]);
}

fn runtime_hooks_stand_outside_of_the_containers_namespaces(scene: &Scene) {
    let bundle = scene.bundle(&["sleep", "1000"]);
    for kind in ["prestart", "createRuntime", "createContainer", "poststart"] {
        let hook = appending(scene, "readlink /proc/self/ns/net");
        set_hooks(&bundle, kind, &[hook]);
    }
    let container = scene.started(&bundle);
    let namespace = |pid: &str| {
        let link = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        link.display().to_string()
    };
    let (host, own) = (namespace("self"), namespace(&container.pid.to_string()));
    assert_ne!(host, own);
    assert_eq!(lines(&log(scene)), [host.clone(), host.clone(), own, host]);
    container.remove();
}

fn the_container_sees_what_hooks_have_mounted(scene: &Scene) {
    let place = scene.rootfs().join("tmp");
    let mount = |name: &str, enter: &str| {
        let folder = place.display();
        shell(&format!(
            "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); {enter} sh -ec \
             'mkdir {folder}/{name}; mount -t tmpfs none {folder}/{name}; echo {name} >{folder}/{name}/file'"
        ))
    };
    let bundle = scene.shell("cat /tmp/runtime/file /tmp/container/file");
    let runtime = mount("runtime", "nsenter -m -t $pid");
    set_hooks(&bundle, "createRuntime", &[runtime]);
    set_hooks(&bundle, "createContainer", &[mount("container", "")]);
    assert_eq!(scene.run(&bundle).ok(), "runtime\ncontainer\n");
    let left = |name: &str| fs::read_dir(place.join(name)).unwrap().count();
    assert_eq!((left("runtime"), left("container")), (0, 0), "on the host");
}

fn a_failing_hook_fails_the_creation_and_leaves_nothing(scene: &Scene) {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let bundle = scene.bundle(&["true"]);
        let hooks = [
            shell("true"),
            shell("echo said; echo why >&2; exit 3"),
            appending(scene, "echo late"),
        ];
        set_hooks(&bundle, kind, &hooks);
        set_hooks(&bundle, "poststop", &[appending(scene, "echo poststop")]);
        let text =
            format!("error running {kind} hook #1: exit status: 3, stdout: said, stderr: why");
        scene.try_create(&bundle).fails(1, &text);
        scene.assert_nothing_is_left();
    }
    assert_eq!(lines(&log(scene)), ["poststop"; 3]);
}

fn a_late_hook_is_killed(scene: &Scene) {
    for kind in ["createRuntime", "createContainer"] {
        let bundle = scene.bundle(&["true"]);
        let mut hook = shell("sleep 1000; true");
        hook["timeout"] = 1.into();
        set_hooks(&bundle, kind, &[hook]);
        let text = format!("error running {kind} hook #0: hook ran past specified timeout of 1.0s");
        scene.try_create(&bundle).fails(1, &text);
        scene.assert_nothing_is_left();
    }
}

fn a_hook_that_cannot_be_executed_is_named(scene: &Scene) {
    let plain = scene.path("plain");
    fs::write(&plain, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).unwrap();
    let missing = Path::new("/nowhere/hook");
    for (path, reason) in [
        (missing, "no such file or directory"),
        (&plain, "permission denied"),
    ] {
        for kind in ["prestart", "createContainer"] {
            let bundle = scene.bundle(&["true"]);
            set_hooks(&bundle, kind, &[json!({"path": path})]);
            let text = format!(
                "error running {kind} hook #0: start {}: {reason}",
                path.display()
            );
            scene.try_create(&bundle).fails(1, &text);
            scene.assert_nothing_is_left();
        }
    }
}

fn a_malformed_hook_is_named(scene: &Scene) {
    let bundle = scene.bundle(&["true"]);
    set_hooks(&bundle, "poststop", &[json!({"path": "bin/hook"})]);
    scene
        .try_create(&bundle)
        .fails(1, "hooks.poststop[0]: path bin/hook is not absolute");
    let never = json!({"path": "/bin/true", "timeout": 0});
    set_hooks(&bundle, "poststop", &[never]);
    scene
        .try_create(&bundle)
        .fails(1, "hooks.poststop[0]: timeout 0 is not greater than zero");
}

fn a_failing_start_hook_stops_the_container(scene: &Scene) {
    let bundle = scene.bundle(&["sleep", "1000"]);
    let inside = [
        shell("true"),
        shell("echo said; echo why >&2; exit 3"),
        shell("touch /late"),
    ];
    set_hooks(&bundle, "startContainer", &inside);
    set_hooks(&bundle, "poststart", &[appending(scene, "echo poststart")]);
    set_hooks(&bundle, "poststop", &[appending(scene, "echo poststop")]);
    let container = scene.create(&bundle);
    let text = "error running startContainer hook #1: exit status: 3, stdout: said, stderr: why";
    container.verb("start", &[]).fails(1, text);
    assert_eq!(container.wait_briefly(), 1);
    container.assert_status("stopped");
    container.delete();
    assert_eq!(lines(&log(scene)), ["poststop"]);
    assert!(!scene.rootfs().join("late").exists());
    let bundle = scene.bundle(&["true"]);
    let mut late = shell("sleep 1000; true");
    late["timeout"] = 1.into();
    set_hooks(&bundle, "startContainer", &[late]);
    let text = "error running startContainer hook #0: hook ran past specified timeout of 1.0s";
    scene.run(&bundle).fails(1, text);
    scene.assert_nothing_is_left();
}

fn a_container_can_be_killed_in_its_start_hooks(scene: &Scene) {
    let bundle = scene.bundle(&["true"]);
    set_hooks(
        &bundle,
        "startContainer",
        &[shell("touch /begun; sleep 1000")],
    );
    let container = scene.create(&bundle);
    let mut start = scene.command(["start", &container.id]);
    let mut start = start.stderr(Stdio::null()).spawn().unwrap();
    wait::for_file(&scene.rootfs().join("begun"));
    container.assert_status("created");
    let kill = container.verb("kill", &["KILL"]);
    assert_eq!(kill.ok(), "");
    assert_eq!(container.wait(), 137);
    assert!(!start.wait().unwrap().success());
    container.delete();
}

fn a_failing_poststart_hook_deletes_the_container(scene: &Scene) {
    let bundle = scene.bundle(&["sleep", "1000"]);
    set_hooks(&bundle, "poststart", &[shell("exit 2")]);
    set_hooks(&bundle, "poststop", &[appending(scene, "echo poststop")]);
    let container = scene.create(&bundle);
    let text = "error running poststart hook #0: exit status: 2, stdout: , stderr: ";
    container.verb("start", &[]).fails(1, text);
    assert_eq!(container.wait_briefly(), 137);
    assert_eq!(lines(&log(scene)), ["poststop"]);
    let gone = format!("container does not exist: {}", container.id);
    container.verb("state", &[]).fails(1, &gone);
    container.verb("delete", &[]).fails(1, &gone);
    scene.assert_nothing_is_left();
    // `run` leaves nothing at all.
    let bundle = scene.bundle(&["sleep", "1000"]);
    set_hooks(&bundle, "poststart", &[shell("exit 2")]);
    scene.run(&bundle).fails(1, text);
    scene.assert_nothing_is_left();
}

fn a_failing_poststop_hook_is_told_and_the_rest_run(scene: &Scene) {
    let bundle = scene.bundle(&["true"]);
    let hooks = [shell("exit 4"), appending(scene, "echo second")];
    set_hooks(&bundle, "poststop", &hooks);
    let output = scene.run(&bundle);
    output.exits(0);
    let text = "level=warning msg=\"error running poststop hook #0: exit status: 4, ";
    assert!(output.stderr.contains(text), "{}", output.stderr);
    assert_eq!(lines(&log(scene)), ["second"]);
}
