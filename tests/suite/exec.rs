//! `exec`: one more process, in the foreground or detached, with what its
//! flags and files say.

use std::fs;
use std::process::{Command, Stdio};

use caisson_tests::{Scene, stories, wait};
use serde_json::json;

stories![
    exec_runs_with_the_containers_environment_and_what_flags_add,
    exec_takes_a_process_from_a_file,
    exec_leaves_a_detached_process_with_a_pid_that_ends_as_it_does,
    an_exec_that_can_not_be_told_of_is_ended,
    exec_without_stdin_sees_its_end_at_once,
    exec_reads_its_standard_input,
    exec_works_in_a_created_container,
    what_an_exec_leaves_behind_lives_on,
    what_an_exec_leaves_behind_goes_on_writing,
    a_copier_of_late_output_ends_with_the_container,
    the_error_of_an_exec_is_the_guests_and_its_code_255,
];

fn exec_runs_with_the_containers_environment_and_what_flags_add(scene: &Scene) {
    let bundle = scene.bundle(&["sleep", "1000"]);
    bundle.edit(|config| {
        config["process"]["user"]["additionalGids"] = json!([78]);
        config["process"]["env"]
            .as_array_mut()
            .unwrap()
            .push("COLOUR=red".into());
    });
    let container = scene.started(&bundle);
    let script = "echo $COLOUR $SHAPE $(pwd) $(id -u):$(id -g) $(id -G)";
    assert_eq!(
        container.exec(&["sh", "-c", script]).ok(),
        "red / 0:0 0 78\n"
    );
    let flags = [
        "exec",
        "-e",
        "SHAPE=round",
        "--env=COLOUR=blue",
        "--cwd",
        "/tmp",
        "-u",
        "12:34",
        "-g",
        "56",
    ];
    let arguments = [&flags[..], &[&container.id, "sh", "-c", script]].concat();
    assert_eq!(
        scene.caisson(arguments).ok(),
        "blue round /tmp 12:34 34 56 78\n"
    );
    // After the container's name no flag is read.
    assert_eq!(container.exec(&["echo", "-e", "--cwd"]).ok(), "--cwd\n");
    container.remove();
}

fn exec_takes_a_process_from_a_file(scene: &Scene) {
    let bundle = scene.bundle(&["sleep", "1000"]);
    bundle.edit(|config| config["process"]["oomScoreAdj"] = json!(321));
    let container = scene.started(&bundle);
    let path = scene.path("process.json");
    let process = json!({
        "args": ["sh", "-c", "echo $A; id -u; ulimit -n; cat /proc/self/oom_score_adj; exit 8"], "env": ["A=b", "PATH=/bin"], "cwd": "/",
        "user": {"uid": 7, "gid": 7}, "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99}],
    });
    fs::write(&path, process.to_string()).unwrap();
    let output = scene.caisson(["exec", "--process", path.to_str().unwrap(), &container.id]);
    output.exits(8);
    assert_eq!(output.stdout, "b\n7\n77\n321\n");
    fs::write(&path, "{").unwrap();
    let output = scene.caisson(["exec", "-p", path.to_str().unwrap(), &container.id]);
    assert!(
        output
            .error_line(255)
            .starts_with(&format!("parse {}: ", path.display())),
        "{output:?}"
    );
    container.remove();
}

fn exec_leaves_a_detached_process_with_a_pid_that_ends_as_it_does(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    let pid_file = scene.path("exec.pid");
    let (mut reader, writer) = std::io::pipe().unwrap();
    let text = pid_file.to_str().unwrap();
    let mut command = scene.command([
        "exec",
        "-d",
        "--pid-file",
        text,
        &container.id,
        "sh",
        "-c",
        "echo hello; exit 6",
    ]);
    assert!(
        command
            .stdout(writer)
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    );
    drop(command);
    let pid = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    assert_eq!(wait::exit_code_of(pid), 6);
    // Its output is complete, and nobody holds the stream any longer.
    let mut said = String::new();
    std::io::Read::read_to_string(&mut reader, &mut said).unwrap();
    assert_eq!(said, "hello\n");
    let failed = scene.caisson(["exec", "-d", &container.id, "/nothing"]);
    assert!(
        failed.error_line(255).contains("no such file or directory"),
        "{failed:?}"
    );
    container.remove();
}

fn an_exec_that_can_not_be_told_of_is_ended(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    let socket = scene.path("nobody.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let (pid_file, socket) = (scene.path("no/such/pid"), socket.display().to_string());
    for (flag, value) in [
        ("--pid-file", pid_file.to_str().unwrap()),
        ("--pidfd-socket", &socket),
    ] {
        let failed = scene.caisson(["exec", "-d", flag, value, &container.id, "sleep", "7777"]);
        assert!(failed.error_line(255).contains(value), "{failed:?}");
        let gone = "while grep -q '[7]777' /proc/[0-9]*/cmdline 2>/dev/null; do sleep 0.1; done";
        container.exec(&["timeout", "10", "sh", "-c", gone]).ok();
    }
    container.remove();
}

fn exec_without_stdin_sees_its_end_at_once(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    assert_eq!(container.exec(&["cat"]).ok(), "");
    container.remove();
}

fn exec_reads_its_standard_input(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    let mut command = scene.command(["exec", &container.id, "cat"]);
    let path = scene.path("input");
    fs::write(&path, "from outside\n").unwrap();
    command.stdin(fs::File::open(&path).unwrap());
    assert_eq!(scene.output_of(command).ok(), "from outside\n");
    container.remove();
}

fn exec_works_in_a_created_container(scene: &Scene) {
    let container = scene.create(&scene.bundle(&["sleep", "1000"]));
    assert_eq!(container.exec(&["echo", "early"]).ok(), "early\n");
    container.assert_status("created");
    container.start();
    container.remove();
}

/// Whoever wanted the exec has gone, and nobody takes what is written.
fn what_an_exec_leaves_behind_lives_on(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    for (name, flags) in [("front", &["exec"][..]), ("behind", &["exec", "--detach"])] {
        let script = format!(
            "(until [ -e /go ]; do sleep 0.1; done; echo x; echo y >&2; \
              dd if=/dev/zero bs=64k count=8 && echo z >/alive-{name}) &"
        );
        let mut command = scene.command(flags);
        command.args([&container.id, "sh", "-c", &script]);
        // A pipe whose reader goes with the exec, and /dev/null.
        let (reader, writer) = std::io::pipe().unwrap();
        let status = command.stdout(writer).stderr(Stdio::null()).status();
        assert!(status.unwrap().success());
        drop((command, reader));
    }
    let script = "touch /go; until [ -e /alive-front ] && [ -e /alive-behind ]; do sleep 0.1; done";
    container.exec(&["timeout", "60", "sh", "-c", script]).ok();
    container.remove();
}

fn what_an_exec_leaves_behind_goes_on_writing(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    let script = "(until [ -e /go ]; do sleep 0.1; done; echo late; echo late >&2) & echo early";
    let mut pipes = Vec::new();
    for (name, flags) in [("front", &["exec"][..]), ("behind", &["exec", "--detach"])] {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = scene.command(flags);
        command.args([&container.id, "sh", "-c", script]);
        let file = fs::File::create(scene.path(name)).unwrap();
        let status = command.stdout(file).stderr(writer).status();
        assert!(status.unwrap().success());
        pipes.push(reader);
    }
    assert_eq!(fs::read_to_string(scene.path("front")).unwrap(), "early\n");
    container.exec(&["touch", "/go"]).ok();
    for mut reader in pipes {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
        assert_eq!(text, "late\n");
    }
    for name in ["front", "behind"] {
        let path = scene.path(name);
        let script = "until grep -q late \"$0\"; do sleep 0.1; done";
        let mut come = Command::new("timeout");
        come.args(["60", "sh", "-c", script]).arg(&path);
        assert!(come.status().unwrap().success());
        assert_eq!(fs::read_to_string(&path).unwrap(), "early\nlate\n");
    }
    container.remove();
}

/// Also one that nobody reads from.
fn a_copier_of_late_output_ends_with_the_container(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    let (mut reader, writer) = std::io::pipe().unwrap();
    let script = "(until [ -e /go ]; do sleep 0.1; done; yes) &";
    let mut command = scene.command(["exec", &container.id, "sh", "-c", script]);
    command.stdout(writer).stderr(Stdio::null());
    assert!(command.status().unwrap().success());
    drop(command);
    container.exec(&["touch", "/go"]).ok();
    assert_eq!(wait::for_text(&mut reader, "\n"), "y\n");
    container.remove();
    // The pipe is full by now, and its end comes when nobody holds it.
    std::io::Read::read_to_end(&mut reader, &mut Vec::new()).unwrap();
}

fn the_error_of_an_exec_is_the_guests_and_its_code_255(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    let id = container.id.as_str();
    scene
        .caisson(["exec", "--cwd", "/no/where", id, "pwd"])
        .fails(
            255,
            "chdir to cwd (\"/no/where\") set in config.json failed: no such file or directory",
        );
    scene
        .caisson(["exec", "--cwd", "relative", id, "true"])
        .fails(255, "Cwd must be an absolute path");
    let path = scene.path("process.json");
    for (cwd, text) in [
        (json!(null), "Cwd property must not be empty"),
        (json!(""), "Cwd property must not be empty"),
        (json!("relative"), "Cwd must be an absolute path"),
    ] {
        let process = json!({"args": ["true"], "env": ["PATH=/bin"], "cwd": cwd});
        fs::write(&path, process.to_string()).unwrap();
        scene
            .caisson(["exec", "-p", path.to_str().unwrap(), id])
            .fails(255, text);
    }
    for (entry, text) in [
        ("X", "invalid environment variable: \"X\""),
        ("=x", "environment variable name can't be empty: \"=x\""),
    ] {
        let output = scene.caisson(["exec", "--env", entry, id, "true"]);
        output.fails(255, text);
    }
    scene
        .caisson(["exec", "--user", "nobody", id, "true"])
        .fails(255, "--user \"nobody\": give numbers, uid or uid:gid");
    scene
        .caisson(["exec", id])
        .fails(255, "process args cannot be empty");
    container.remove();
}
