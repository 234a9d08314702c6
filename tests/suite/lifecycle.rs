//! create, start, state, kill, delete: the legal moves, and the others with
//! runc's words.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::time::Duration;

use caisson_tests::container::STOP_LIMIT;
use caisson_tests::terminal::ConsoleSocket;
use caisson_tests::{Container, Scene, stories, wait};
use serde_json::Value;

stories![
    a_container_walks_through_its_states.smoke(),
    illegal_moves_are_refused_in_the_words_of_runc,
    a_created_container_can_be_deleted,
    delete_with_force_ends_a_running_container,
    the_pid_file_is_the_last_act_of_create,
    a_pidfd_of_the_process_is_sent,
    run_detached_leaves_a_container_behind,
    what_the_caller_left_open_is_not_kept,
    a_container_that_failed_to_be_created_does_not_exist,
    list_shows_every_container_of_its_state_folder,
];

fn a_container_walks_through_its_states(scene: &Scene) {
    let bundle = scene.shell("read line; echo $line; exit 4");
    bundle.edit(|config| config["annotations"] = serde_json::json!({"org.example.colour": "red"}));
    let (reader, mut writer) = std::io::pipe().unwrap();
    let container = scene.create_with_input(&bundle, reader.into());
    let created = container.state();
    assert_eq!(created["status"], "created");
    assert_eq!(created["id"], bundle.id.as_str());
    assert_eq!(created["pid"], container.pid);
    assert_eq!(created["bundle"], bundle.path.to_str().unwrap());
    assert_eq!(created["annotations"]["org.example.colour"], "red");
    assert_eq!(created["ociVersion"], "1.3.0");
    assert_eq!(created["owner"], "root");
    assert_eq!(container.stdout(), "", "nothing runs before start");

    container.start();
    container.assert_status("running");
    std::io::Write::write_all(&mut writer, b"hello\n").unwrap();
    assert_eq!(container.wait(), 4);
    let stopped = container.state();
    assert_eq!(stopped["status"], "stopped");
    assert_eq!(stopped["pid"], 0);
    assert_eq!(container.stdout(), "hello\n");
    container.delete();
    container
        .verb("state", &[])
        .fails(1, &format!("container does not exist: {}", bundle.id));
}

fn illegal_moves_are_refused_in_the_words_of_runc(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    let id = &container.id;
    container
        .verb("start", &[])
        .fails(1, "cannot start an already running container");
    container.verb("delete", &[]).fails(
        1,
        &format!("cannot delete container {id} that is not stopped: running"),
    );
    container.assert_status("running");
    container.verb("kill", &["KILL"]).ok();
    assert_eq!(container.wait(), 137);
    container
        .verb("start", &[])
        .fails(1, "cannot start a container that has stopped");
    container
        .verb("kill", &[])
        .fails(1, "container not running");
    container
        .exec(&["true"])
        .fails(255, "cannot exec in a stopped container");
    assert_eq!(container.verb("ps", &[]).ok().lines().count(), 1);
    assert_eq!(scene.caisson(["ps", "-f", "json", id]).ok(), "[]");
    container.delete();
    for verb in ["start", "state", "kill", "delete", "ps"] {
        scene
            .caisson([verb, id])
            .fails(1, &format!("container does not exist: {id}"));
    }
    scene
        .caisson(["exec", id, "true"])
        .fails(255, &format!("container does not exist: {id}"));
    scene.caisson(["delete", "--force", id]).ok();
}

fn a_created_container_can_be_deleted(scene: &Scene) {
    let container = scene.create(&scene.bundle(&["sleep", "1000"]));
    container.delete();
    assert_eq!(container.wait(), 137);
}

fn delete_with_force_ends_a_running_container(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    scene.caisson(["delete", "--force", &container.id]).ok();
    assert_eq!(container.wait(), 137);
}

fn the_pid_file_is_the_last_act_of_create(scene: &Scene) {
    let bundle = scene.bundle(&["sleep", "1000"]);
    let pid_file = scene.path("pid");
    let arguments = [
        "create",
        "--bundle",
        bundle.path.to_str().unwrap(),
        "--pid-file",
        pid_file.to_str().unwrap(),
        &bundle.id,
    ];
    let mut create = scene.command(arguments).spawn().unwrap();
    wait::for_file(&pid_file);
    // Complete as soon as it is there, and the container is ready to be started.
    let pid: i32 = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    let state: Value = serde_json::from_str(&scene.caisson(["state", &bundle.id]).ok()).unwrap();
    assert_eq!(
        (state["pid"].as_i64(), state["status"].as_str()),
        (Some(pid.into()), Some("created"))
    );
    assert!(create.wait().unwrap().success());
    scene.caisson(["delete", "--force", &bundle.id]).ok();
    assert_eq!(wait::exit_code_of(pid), 137);
}

fn a_pidfd_of_the_process_is_sent(scene: &Scene) {
    let bundle = scene.bundle(&["sleep", "1000"]);
    let socket = ConsoleSocket::new(scene);
    let to = socket.path.to_str().unwrap();
    let folder = bundle.path.to_str().unwrap();
    let received = |word: &str| {
        let (pidfd, said) = socket.receive_descriptor();
        assert_eq!(said, word);
        pidfd
    };
    let over = |pidfd: &OwnedFd| wait::readable_within(pidfd.as_fd(), Duration::ZERO);
    let create = [
        "create",
        "--bundle",
        folder,
        "--pidfd-socket",
        to,
        &bundle.id,
    ];
    scene.caisson(create).ok();
    let container = received("standard");
    scene.caisson(["start", &bundle.id]).ok();
    let exec = [
        "exec",
        "--detach",
        "--pidfd-socket",
        to,
        &bundle.id,
        "sleep",
        "1000",
    ];
    scene.caisson(exec).ok();
    let process = received("setns");
    assert!(!over(&container) && !over(&process));
    scene.caisson(["delete", "--force", &bundle.id]).ok();
    assert!(over(&container));
    assert!(wait::readable_within(process.as_fd(), STOP_LIMIT));
}

fn run_detached_leaves_a_container_behind(scene: &Scene) {
    let bundle = scene.shell("echo hello; exit 5");
    let pid_file = bundle.path.join("pid");
    let arguments = [
        "run",
        "--detach",
        "--bundle",
        bundle.path.to_str().unwrap(),
        "--pid-file",
        pid_file.to_str().unwrap(),
        &bundle.id,
    ];
    scene.caisson(arguments).exits(0);
    let pid = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    assert_eq!(wait::exit_code_of(pid), 5);
    scene.caisson(["delete", &bundle.id]).ok();
}

fn what_the_caller_left_open_is_not_kept(scene: &Scene) {
    let bundle = scene.bundle(&["sleep", "1000"]);
    let left_open = scene.path("left-open");
    fs::write(&left_open, "").unwrap();
    let pid_file = bundle.path.join("pid");
    let create = scene.command([
        "create",
        "--bundle",
        bundle.path.to_str().unwrap(),
        "--pid-file",
        pid_file.to_str().unwrap(),
        &bundle.id,
    ]);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "exec 9<\"$0\"; exec \"$@\""])
        .arg(&left_open);
    shell.arg(create.get_program()).args(create.get_args());
    shell.envs(
        create
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    scene.output_of(shell).ok();
    let pid = fs::read_to_string(pid_file).unwrap().parse().unwrap();
    for descriptor in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let target = fs::read_link(descriptor.unwrap().path()).unwrap_or_default();
        assert_ne!(target, left_open);
    }
    let container = Container::known(scene, &bundle.id, pid);
    container.verb("delete", &["--force"]).ok();
    assert_eq!(container.wait(), 137);
}

fn a_container_that_failed_to_be_created_does_not_exist(scene: &Scene) {
    let bundle = scene.bundle(&["true"]);
    bundle.edit(|config| config["process"]["cwd"] = "/etc/passwd/x".into());
    fs::write(
        scene.rootfs().join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\n",
    )
    .unwrap();
    let output = scene.run(&bundle);
    assert!(
        output.error_line(1).contains("not a directory"),
        "{output:?}"
    );
    scene
        .caisson(["state", &bundle.id])
        .fails(1, &format!("container does not exist: {}", bundle.id));
}

fn list_shows_every_container_of_its_state_folder(scene: &Scene) {
    assert_eq!(scene.caisson(["list", "--format", "json"]).ok(), "[]");
    let running = scene.started(&scene.bundle(&["sleep", "1000"]));
    let stopped = scene.started(&scene.bundle(&["true"]));
    assert_eq!(stopped.wait(), 0);
    let list: Value = serde_json::from_str(&scene.caisson(["list", "-f", "json"]).ok()).unwrap();
    let found: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|state| (&state["id"], &state["status"]))
        .collect();
    let wanted = [(&running.id, "running"), (&stopped.id, "stopped")];
    let wanted: Vec<(Value, Value)> = wanted
        .iter()
        .map(|(id, status)| (id.as_str().into(), (*status).into()))
        .collect();
    assert_eq!(
        found,
        wanted
            .iter()
            .map(|(id, status)| (id, status))
            .collect::<Vec<_>>()
    );
    let table = scene.caisson(["list"]).ok();
    let head: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert_eq!(table.lines().count(), 3);
    assert_eq!(
        scene.caisson(["list", "-q"]).ok(),
        format!("{}\n{}\n", running.id, stopped.id)
    );
    stopped.delete();
    running.remove();
}
