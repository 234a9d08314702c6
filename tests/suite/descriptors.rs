//! Further descriptors: pipes and stream sockets of the caller work inside, what
//! can't cross into a machine is refused by its number.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use caisson_tests::{Output, Scene, stories};
use command_fds::{CommandFdExt, FdMapping};

stories![
    a_containers_program_has_the_callers_pipe_and_socket,
    an_execd_program_has_them_too,
    sockets_of_activation_are_announced,
    what_cannot_cross_is_refused_by_its_number,
];

/// Runs a command that inherits `descriptors` from 3 up.
fn output_with(scene: &Scene, mut command: Command, descriptors: Vec<OwnedFd>) -> Output {
    let mappings = (3..)
        .zip(descriptors)
        .map(|(child_fd, parent_fd)| FdMapping {
            parent_fd,
            child_fd,
        });
    command.fd_mappings(mappings.collect()).unwrap();
    scene.output_of(command)
}

const SCRIPT: &str = "read line <&4; echo heard $line >&4; echo piped >&3; ls /proc/self/fd";

/// The script's two conversations, and what it has printed.
fn converse(scene: &Scene, command: Command) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let (mut caller, handed) = UnixStream::pair().unwrap();
    caller.write_all(b"question\n").unwrap();
    let output = output_with(scene, command, vec![writer.into(), handed.into()]);
    let listed = output.ok();
    // 5 is the directory that ls reads.
    assert_eq!(listed, "0\n1\n2\n3\n4\n5\n");
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert_eq!(said, "piped\n");
    said.clear();
    caller.read_to_string(&mut said).unwrap();
    assert_eq!(said, "heard question\n");
}

fn a_containers_program_has_the_callers_pipe_and_socket(scene: &Scene) {
    let bundle = scene.shell(SCRIPT);
    let folder = bundle.path.to_str().unwrap();
    let run = ["run", "--preserve-fds", "2", "--bundle", folder, &bundle.id];
    converse(scene, scene.command(run));
}

fn an_execd_program_has_them_too(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    let exec = [
        "exec",
        "--preserve-fds=2",
        &container.id,
        "sh",
        "-c",
        SCRIPT,
    ];
    converse(scene, scene.command(exec));
    container.remove();
}

fn sockets_of_activation_are_announced(scene: &Scene) {
    let bundle = scene.shell("echo $LISTEN_FDS $LISTEN_PID; echo hello >&3");
    let folder = bundle.path.to_str().unwrap();
    let mut command = scene.command(["run", "--bundle", folder, &bundle.id]);
    command.env("LISTEN_FDS", "1");
    let (mut caller, handed) = UnixStream::pair().unwrap();
    let output = output_with(scene, command, vec![handed.into()]);
    assert_eq!(output.ok(), "1 1\n");
    let mut said = String::new();
    caller.read_to_string(&mut said).unwrap();
    assert_eq!(said, "hello\n");
}

fn what_cannot_cross_is_refused_by_its_number(scene: &Scene) {
    let bundle = scene.bundle(&["true"]);
    let folder = bundle.path.to_str().unwrap();
    let refused = |count: &str, descriptors: Vec<OwnedFd>| {
        let run = [
            "run",
            "--preserve-fds",
            count,
            "--bundle",
            folder,
            &bundle.id,
        ];
        let output = output_with(scene, scene.command(run), descriptors);
        output.error_line(1).to_owned()
    };
    let file = File::open(bundle.path.join("config.json")).unwrap();
    let listener = UnixListener::bind(scene.path("listener")).unwrap();
    for (descriptor, reason) in [
        (OwnedFd::from(file), "only pipes and stream sockets are"),
        (listener.into(), "a listening socket stays on the host"),
    ] {
        let line = refused("1", vec![descriptor]);
        let text = format!("descriptor 3 can't be handed to a container: {reason}");
        assert!(line.starts_with(&text), "{line}");
    }
    let missing = refused("1", Vec::new());
    let text = "unable to stat preserved-fd 3 (of 1): bad file descriptor";
    assert_eq!(missing, text);
}
