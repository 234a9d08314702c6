//! Terminals: the console socket of engines, `run -t` and `exec -t` of people,
//! resize and job control.

use std::process::Stdio;

use caisson_tests::terminal::{ConsoleSocket, Terminal};
use caisson_tests::{Bundle, Container, Scene, stories, wait};
use serde_json::json;

stories![
    the_master_of_the_terminal_comes_by_the_console_socket,
    what_is_typed_is_never_lost,
    a_resize_reaches_the_guest,
    a_new_terminal_has_the_size_that_its_process_asks_for,
    control_c_ends_the_foreground_job_and_not_the_shell,
    a_job_can_be_stopped_and_taken_to_the_foreground_again,
    run_in_a_terminal_uses_the_callers_own,
    a_callers_pipe_gets_what_the_terminal_shows,
    exec_gets_a_terminal_of_its_own,
    a_terminal_and_its_socket_belong_together,
];

/// A started container whose shell speaks to the terminal; the prompt is "$ ".
fn shell<'a>(scene: &'a Scene, bundle: &Bundle) -> (Container<'a>, Terminal) {
    bundle.with_terminal();
    bundle.edit(|config| {
        config["process"]["env"]
            .as_array_mut()
            .unwrap()
            .push("PS1=ready> ".into())
    });
    let socket = ConsoleSocket::new(scene);
    let pid_file = bundle.path.join("pid");
    let flags = [
        "create",
        "--bundle",
        bundle.path.to_str().unwrap(),
        "--pid-file",
        pid_file.to_str().unwrap(),
    ];
    let arguments = [
        &flags[..],
        &[
            "--console-socket",
            socket.path.to_str().unwrap(),
            &bundle.id,
        ],
    ]
    .concat();
    scene.caisson(arguments).ok();
    // It must have been sent by now: callers read it without a limit.
    let (terminal, name) = socket.receive();
    assert!(name.starts_with("/dev/pts/"), "{name:?}");
    let pid = std::fs::read_to_string(pid_file).unwrap().parse().unwrap();
    let container = Container::known(scene, &bundle.id, pid);
    container.start();
    (container, terminal)
}

fn interactive<'a>(scene: &'a Scene) -> (Container<'a>, Terminal) {
    let (container, mut terminal) = shell(scene, &scene.bundle(&["sh", "-i"]));
    terminal.expect("ready> ");
    (container, terminal)
}

fn leave(container: &Container<'_>, terminal: &mut Terminal) {
    terminal.send("exit 5\n");
    terminal.expect("exit 5\r\n");
    assert_eq!(container.wait(), 5);
    container.delete();
}

fn the_master_of_the_terminal_comes_by_the_console_socket(scene: &Scene) {
    let (container, mut terminal) = interactive(scene);
    terminal.send("tty; test -t 0 -a -t 1 -a -t 2 && echo all three\n");
    terminal.expect("/dev/pts/0");
    terminal.expect("all three\r\n");
    leave(&container, &mut terminal);
}

fn what_is_typed_is_never_lost(scene: &Scene) {
    let (container, mut terminal) = interactive(scene);
    for number in 0..scene.settings.count(500) {
        terminal.send(&format!("echo typed $(({number} + 0)).\n"));
        terminal.expect(&format!("\ntyped {number}."));
    }
    leave(&container, &mut terminal);
}

fn a_resize_reaches_the_guest(scene: &Scene) {
    let script = "trap 'echo size $(stty size)' WINCH; trap 'exit 5' INT; echo begun; \
                  while :; do sleep 0.1; done";
    let (container, mut terminal) = shell(scene, &scene.shell(script));
    terminal.expect("begun");
    for (rows, columns) in [(33, 77), (44, 88)] {
        terminal.resize(rows, columns);
        terminal.expect(&format!("size {rows} {columns}"));
    }
    terminal.send("\u{3}");
    assert_eq!(container.wait(), 5);
    container.delete();
}

fn a_new_terminal_has_the_size_that_its_process_asks_for(scene: &Scene) {
    let bundle = scene.shell("stty size; read line; stty size; exec sleep 1000");
    bundle.edit(|config| config["process"]["consoleSize"] = json!({"height": 14, "width": 92}));
    let (container, mut terminal) = shell(scene, &bundle);
    terminal.expect("14 92");
    terminal.send("again\n");
    terminal.expect("\n14 92");

    let process = scene.path("process.json");
    let args = ["/bin/sh", "-c", "read line; stty size"];
    let object = json!({
        "terminal": true, "consoleSize": {"height": 10, "width": 110}, "args": args, "cwd": "/",
    });
    std::fs::write(&process, object.to_string()).unwrap();
    let socket = ConsoleSocket::new(scene);
    let flags = ["exec", "--detach", "--process", process.to_str().unwrap()];
    let console = ["--console-socket", socket.path.to_str().unwrap()];
    let exec = [&flags[..], &console, &[&container.id]].concat();
    scene.caisson(exec).ok();
    let (mut terminal, _) = socket.receive();
    terminal.send("now\n");
    terminal.expect("\n10 110");
    container.remove();
}

fn control_c_ends_the_foreground_job_and_not_the_shell(scene: &Scene) {
    let (container, mut terminal) = interactive(scene);
    terminal.send("sh -c 'echo begun; sleep 1000'\n");
    terminal.expect("\nbegun");
    terminal.send("\u{3}");
    terminal.expect("ready> ");
    terminal.send("echo status $?\n");
    terminal.expect("status 130");
    leave(&container, &mut terminal);
}

fn a_job_can_be_stopped_and_taken_to_the_foreground_again(scene: &Scene) {
    let (container, mut terminal) = interactive(scene);
    terminal.send("sh -c 'echo begun; read line; echo line $line'\n");
    terminal.expect("\nbegun");
    terminal.send("\u{1a}");
    terminal.expect("Stopped");
    terminal.expect("ready> ");
    terminal.send("fg\n");
    terminal.expect("read line");
    terminal.send("again\n");
    terminal.expect("\nline again");
    leave(&container, &mut terminal);
}

fn run_in_a_terminal_uses_the_callers_own(scene: &Scene) {
    let bundle = scene.shell("stty size; read line; echo line $line; exit 6");
    bundle.with_terminal();
    let command = scene.command(["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id]);
    let (mut terminal, mut run) = Terminal::around(scene, &command, (22, 66));
    terminal.expect("22 66");
    terminal.send("typed\n");
    terminal.expect("line typed");
    assert_eq!(run.wait().unwrap().code(), Some(6));
}

fn a_callers_pipe_gets_what_the_terminal_shows(scene: &Scene) {
    let bundle = scene.shell("tty; echo shown");
    bundle.with_terminal();
    assert_eq!(scene.run(&bundle).ok(), "/dev/pts/0\nshown\n");
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    let output = container.exec(&["--tty", "echo", "shown"]);
    assert_eq!(output.ok(), "shown\n");
    container.remove();
}

fn exec_gets_a_terminal_of_its_own(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    let script = "stty size; read line; echo line $line; exit 7";
    let command = scene.command(["exec", "--tty", &container.id, "sh", "-c", script]);
    let (mut terminal, mut exec) = Terminal::around(scene, &command, (21, 65));
    terminal.expect("21 65");
    terminal.send("typed\n");
    terminal.expect("line typed");
    assert_eq!(exec.wait().unwrap().code(), Some(7));

    let socket = ConsoleSocket::new(scene);
    let pid_file = scene.path("exec.pid");
    let flags = [
        "exec",
        "--tty",
        "--detach",
        "--pid-file",
        pid_file.to_str().unwrap(),
        "--console-socket",
    ];
    let arguments = [
        &flags[..],
        &[
            socket.path.to_str().unwrap(),
            &container.id,
            "sh",
            "-c",
            "tty; exit 8",
        ],
    ]
    .concat();
    let mut detached = scene.command(arguments);
    assert!(
        detached
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    );
    let (mut terminal, _) = socket.receive();
    terminal.expect("/dev/pts/");
    let pid = std::fs::read_to_string(pid_file).unwrap().parse().unwrap();
    assert_eq!(wait::exit_code_of(pid), 8);
    container.remove();
}

fn a_terminal_and_its_socket_belong_together(scene: &Scene) {
    let none = "cannot allocate tty if caisson will detach without setting console socket";
    let needless = "cannot use console socket if the process has no terminal";
    let plain = scene.bundle(&["true"]);
    let with_terminal = scene.bundle(&["true"]);
    with_terminal.with_terminal();
    let create = |path: &str, more: &[&str], id: &str| {
        scene.caisson([&["create", "--bundle", path], more, &[id]].concat())
    };
    create(with_terminal.path.to_str().unwrap(), &[], &with_terminal.id).fails(1, none);
    create(
        plain.path.to_str().unwrap(),
        &["--console-socket", "/nowhere"],
        &plain.id,
    )
    .fails(1, needless);
    let missing = create(
        with_terminal.path.to_str().unwrap(),
        &["--console-socket", "/nowhere"],
        &with_terminal.id,
    );
    missing.fails(1, "console socket /nowhere: no such file or directory");
}
