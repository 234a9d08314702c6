//! Server and client against each other, on this machine.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Command, Output};
use crate::protocol::Status;
use crate::server;

fn client() -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || server::accept_all(&listener));
    Client::connect(port)
}

fn run(command: &Command) -> Output {
    client().run(command).unwrap()
}

#[test]
fn streams_and_exit_code_arrive_apart() {
    let output = run(&Command::shell("echo out; echo err >&2; exit 7"));
    assert_eq!(output.status, Status::Exited(7));
    assert_eq!(output.text(), "out");
    assert_eq!(output.stderr, b"err\n");
}

#[test]
fn environment_and_working_directory_are_the_ones_asked_for() {
    let command = Command::shell("echo $MARK; pwd")
        .env("MARK", "a b")
        .cwd("/usr");
    assert_eq!(run(&command).text(), "a b\n/usr");
}

#[test]
fn megabytes_go_both_ways_unchanged() {
    let bytes: Vec<u8> = (0..5_000_000_u32)
        .map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1])
        .collect();
    let output = run(&Command::new(["cat"]).stdin(bytes.clone()));
    assert!(output.status.success());
    assert!(output.stdout == bytes);
}

#[test]
fn a_command_that_does_not_read_its_input_ends_all_the_same() {
    let output = run(&Command::new(["true"]).stdin(vec![0; 5_000_000]));
    assert!(output.status.success());
}

#[test]
fn a_signal_and_a_missing_program_are_told_apart() {
    assert_eq!(
        run(&Command::shell("kill -9 $$")).status,
        Status::Signaled(9)
    );
    assert!(matches!(
        run(&Command::new(["/nonexistent"])).status,
        Status::NotStarted(_)
    ));
}

#[test]
fn the_time_limit_ends_the_whole_process_group() {
    let command = Command::shell("sleep 1000 & echo $!; wait").timeout(Duration::from_millis(300));
    let output = run(&command);
    assert_eq!(output.status, Status::TimedOut);
    assert!(gone(&output.text()));
}

#[test]
fn a_background_process_does_not_hold_up_the_result() {
    let begin = Instant::now();
    let output = run(&Command::shell("setsid sleep 5 & echo started"));
    assert_eq!(output.text(), "started");
    assert!(begin.elapsed() < Duration::from_secs(4));
}

#[test]
fn output_of_a_background_process_is_followed_on_request() {
    let output = run(&Command::shell("(sleep 0.3; echo late) & echo early").follow_output());
    assert_eq!(output.text(), "early\nlate");
}

#[test]
fn the_last_line_before_the_end_is_never_lost() {
    let client = client();
    for round in 0..200 {
        let output = client
            .run(&Command::shell(format!("echo {round}")))
            .unwrap();
        assert_eq!(output.text(), round.to_string());
    }
}

/// Whether the process has ended; its parent, if it has one, may not have noticed.
fn gone(pid: &str) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        match fs::read_to_string(Path::new("/proc").join(pid).join("stat")) {
            Ok(stat) if !stat.contains(") Z ") => thread::yield_now(),
            _ => return true,
        }
    }
    false
}
