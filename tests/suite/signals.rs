//! Signals reach the container's program: by `kill`, and by kill(2) on the
//! process that stands for it.

use std::fs::File;
use std::process::{Command, Stdio};

use caisson_tests::{Bundle, Container, Scene, stories, wait};
use nix::sys::signal::Signal;
use serde_json::json;

stories![
    kill_sends_a_signal_by_name_or_number,
    a_created_container_is_ended_by_what_asks_for_it,
    kill_all_of_a_stopped_container_is_a_success,
    a_signal_to_the_monitor_reaches_the_program,
    sigkill_of_a_container_by_its_verb_is_137,
    kill_and_pid_signals_reach_execd_processes,
    the_foreground_run_passes_signals_on,
    real_time_signals_and_those_of_faults_are_passed_on,
    what_the_caller_ignores_and_blocks_changes_nothing,
];

/// A program that says when it is ready, and names the signal it got.
fn trapping(scene: &Scene) -> Bundle {
    scene.shell(
        "for s in TERM INT HUP USR1; do trap \"echo got $s; exit 3\" $s; done; \
         echo ready; while :; do sleep 1000 & wait; done",
    )
}

/// A started container that runs it, and its standard output.
fn ready<'a>(scene: &'a Scene, bundle: &Bundle) -> (Container<'a>, std::io::PipeReader) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let streams = [
        Stdio::null(),
        writer.into(),
        File::create("/dev/null").unwrap().into(),
    ];
    let container = scene.create_with_streams(bundle, streams);
    container.start();
    let said = wait::for_text(&mut reader, "ready\n");
    assert_eq!(said, "ready\n");
    (container, reader)
}

fn kill_sends_a_signal_by_name_or_number(scene: &Scene) {
    for (given, name) in [
        (None, "TERM"),
        (Some("INT"), "INT"),
        (Some("SIGHUP"), "HUP"),
        (Some("10"), "USR1"),
    ] {
        let (container, mut output) = ready(scene, &trapping(scene));
        container
            .verb("kill", &given.map_or_else(Vec::new, |signal| vec![signal]))
            .ok();
        assert_eq!(wait::for_text(&mut output, "\n"), format!("got {name}\n"));
        assert_eq!(container.wait(), 3);
        container.delete();
    }
}

/// Its program, and with it any handler, is yet to come.
fn a_created_container_is_ended_by_what_asks_for_it(scene: &Scene) {
    let container = scene.create(&scene.bundle(&["sleep", "1000"]));
    container.verb("kill", &["USR1"]).ok();
    container.verb("kill", &["WINCH"]).ok();
    assert_eq!(container.state()["status"], "created");
    container.verb("kill", &["TERM"]).ok();
    assert_eq!(container.wait(), 143);
    container.delete();

    let container = scene.create(&scene.bundle(&["sleep", "1000"]));
    container.signal(Signal::SIGINT);
    assert_eq!(container.wait(), 130);
    container.delete();
}

fn kill_all_of_a_stopped_container_is_a_success(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["true"]));
    assert_eq!(container.wait(), 0);
    container
        .verb("kill", &["KILL"])
        .fails(1, "container not running");
    scene.caisson(["kill", "--all", &container.id, "KILL"]).ok();
    container
        .verb("kill", &["NONE"])
        .fails(1, "unknown signal \"NONE\"");
    container.delete();
}

fn a_signal_to_the_monitor_reaches_the_program(scene: &Scene) {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (container, mut output) = ready(scene, &trapping(scene));
        container.signal(signal);
        let name = signal.as_str().trim_start_matches("SIG");
        assert_eq!(wait::for_text(&mut output, "\n"), format!("got {name}\n"));
        assert_eq!(container.wait(), 3);
        container.delete();
    }
}

fn sigkill_of_a_container_by_its_verb_is_137(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    container.verb("kill", &["KILL"]).ok();
    assert_eq!(container.wait(), 137);
    container.assert_status("stopped");
    container.delete();
}

fn kill_and_pid_signals_reach_execd_processes(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    let detached = |name: &str| {
        let pid_file = scene.path(name);
        let text = pid_file.to_str().unwrap();
        let script =
            format!("trap 'exit 9' TERM; : >/tmp/{name}; while :; do sleep 1000 & wait; done");
        scene
            .caisson([
                "exec",
                "--detach",
                "--pid-file",
                text,
                &container.id,
                "sh",
                "-c",
                &script,
            ])
            .ok();
        wait::for_file(&scene.rootfs().join("tmp").join(name));
        std::fs::read_to_string(&pid_file)
            .unwrap()
            .parse::<i32>()
            .unwrap()
    };
    let send =
        |pid: i32, signal| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();

    let trapped = detached("exec-1.pid");
    send(trapped, Signal::SIGTERM);
    assert_eq!(wait::exit_code_of(trapped), 9);

    // The process that stands for it dies, and with it what it stands for.
    let killed = detached("exec-2.pid");
    send(killed, Signal::SIGKILL);
    assert_eq!(wait::exit_code_of(killed), 137);
    let gone = "while grep -q '[t]mp/exec-2' /proc/[0-9]*/cmdline 2>/dev/null; do sleep 0.1; done";
    container.exec(&["timeout", "10", "sh", "-c", gone]).ok();

    // The container's end takes them along.
    let last = detached("exec-3.pid");
    container.verb("kill", &["KILL"]).ok();
    assert_eq!(wait::exit_code_of(last), 137);
    assert_eq!(container.wait(), 137);
    container.delete();
}

fn the_foreground_run_passes_signals_on(scene: &Scene) {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let bundle = trapping(scene);
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut command =
            scene.command(["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id]);
        let mut run = command.stdout(writer).spawn().unwrap();
        drop(command);
        let _ready = wait::for_text(&mut reader, "ready\n");
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(run.id().try_into().unwrap()),
            signal,
        )
        .unwrap();
        assert_eq!(run.wait().unwrap().code(), Some(3));
    }
}

/// systemd's way to end a container is SIGRTMIN+3; a watchdog's is SIGABRT.
fn real_time_signals_and_those_of_faults_are_passed_on(scene: &Scene) {
    let script = "for s in ABRT SEGV 37 64; do trap \"echo got $s\" $s; done; \
                  trap 'exit 3' TERM; echo ready; while :; do sleep 1000 & wait; done";
    let answers = |pid: i32, output: &mut std::io::PipeReader| {
        for name in ["ABRT", "37", "SEGV", "64"] {
            // No library names them all.
            let command = format!("kill -{name} {pid}");
            let sent = Command::new("sh").args(["-c", &command]).status().unwrap();
            assert!(sent.success(), "{command}");
            assert_eq!(wait::for_text(output, "\n"), format!("got {name}\n"));
        }
    };
    let (container, mut output) = ready(scene, &scene.shell(script));
    answers(container.pid, &mut output);

    let bundle = scene.shell(script);
    let id = bundle.id.as_str();
    for arguments in [
        &["exec", &container.id, "sh", "-c", script][..],
        &["run", "--bundle", bundle.path.to_str().unwrap(), id],
    ] {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut command = scene.command(arguments);
        let mut foreground = command.stdout(writer).spawn().unwrap();
        drop(command);
        let _ready = wait::for_text(&mut reader, "ready\n");
        let pid = foreground.id().try_into().unwrap();
        answers(pid, &mut reader);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        assert_eq!(foreground.wait().unwrap().code(), Some(3));
    }
    container.remove();
}

/// As below supervisors that ignore SIGCHLD, and others that block everything. What runs
/// in the guest inherits nothing; a hook what nohup(1) ignores, as with runc.
fn what_the_caller_ignores_and_blocks_changes_nothing(scene: &Scene) {
    const SHOW: [&str; 4] = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"];
    const IGNORED: &str = "--ignore-signal=HUP,INT,QUIT,USR1,PIPE,ALRM,TERM,CHLD,RTMAX";
    const NOTHING: &str = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n";
    let beneath = |inner: Command| {
        let mut command = Command::new("env");
        command.args([IGNORED, "--block-signal"]);
        command.arg(inner.get_program()).args(inner.get_args());
        for (name, value) in inner.get_envs() {
            command.env(name, value.unwrap());
        }
        command.stdin(Stdio::null());
        scene.output_of(command)
    };
    let seen = scene.path("seen");
    let bundle = scene.bundle(&["sleep", "1000"]);
    let hook = format!("grep -E '{}' {} >{}", SHOW[2], SHOW[3], seen.display());
    bundle.edit(|config| {
        config["hooks"]["prestart"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", hook]}]);
    });
    let folder = bundle.path.to_str().unwrap();
    let pid_file = bundle.path.join("pid");
    let create = [
        "create",
        "--bundle",
        folder,
        "--pid-file",
        pid_file.to_str().unwrap(),
    ];
    beneath(scene.command([&create[..], &[&bundle.id]].concat())).ok();
    let pid = std::fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    let container = Container::known(scene, &bundle.id, pid);
    beneath(scene.command(["start", &bundle.id])).ok();
    let exec = beneath(scene.command([&["exec", &bundle.id][..], &SHOW].concat()));
    assert_eq!(exec.ok(), NOTHING);
    let by_hook = std::fs::read_to_string(&seen).unwrap();
    // Without the two that the C library itself ignores in what this test spawns.
    let kept_by_runc = ["SigIgn:\t0000000000000003\n", "SigIgn:\t0000000180000003\n"];
    assert!(
        by_hook.starts_with("SigBlk:\t0000000000000000\n"),
        "{by_hook}"
    );
    assert!(
        kept_by_runc.iter().any(|kept| by_hook.ends_with(kept)),
        "{by_hook}"
    );
    beneath(scene.command(["kill", &bundle.id, "KILL"])).ok();
    assert_eq!(container.wait(), 137);
    container.delete();

    let bundle = scene.bundle(&SHOW);
    let run = ["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id];
    assert_eq!(beneath(scene.command(run)).ok(), NOTHING);
}
