//! Standard streams lose nothing, in either direction, however much it is.

use std::fs;
use std::io::{Read, Write};
use std::process::{ChildStdin, Stdio};
use std::thread;

use caisson_tests::{Scene, stories, wait};
use sha2::{Digest, Sha256};

stories![
    everything_written_to_stdout_arrives,
    everything_fed_to_stdin_arrives,
    both_directions_at_once_lose_nothing,
    stdin_can_be_closed_while_output_goes_on,
    stdout_and_stderr_stay_apart,
    the_last_line_before_the_exit_is_never_lost.limit(240),
    a_reader_that_is_slow_gets_everything,
    output_nobody_reads_does_not_block_the_end,
    output_ends_for_its_reader_when_the_program_closes_it,
];

const FULL_MIB: usize = 100;

/// Bytes that no stream can mix up unnoticed.
fn numbers(mib: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let words = (mib << 20) / 8;
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_le_bytes()
    };
    (0..words).flat_map(next).collect()
}

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn feed(mut stdin: ChildStdin, bytes: Vec<u8>) -> thread::JoinHandle<()> {
    thread::spawn(move || stdin.write_all(&bytes).unwrap())
}

fn everything_written_to_stdout_arrives(scene: &Scene) {
    let bytes = numbers(scene.settings.count(FULL_MIB));
    fs::write(scene.rootfs().join("numbers"), &bytes).unwrap();
    let bundle = scene.bundle(&["cat", "/numbers"]);
    let mut command = scene.command(["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout.len(), bytes.len());
    assert_eq!(sum(&output.stdout), sum(&bytes));
}

fn everything_fed_to_stdin_arrives(scene: &Scene) {
    let bytes = numbers(scene.settings.count(FULL_MIB));
    let wanted = format!("{}  -\n", sum(&bytes));
    let bundle = scene.bundle(&["sha256sum"]);
    let mut command = scene.command(["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id]);
    let mut run = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let feeder = feed(run.stdin.take().unwrap(), bytes);
    let output = run.wait_with_output().unwrap();
    feeder.join().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), wanted);
}

fn both_directions_at_once_lose_nothing(scene: &Scene) {
    let bytes = numbers(scene.settings.count(FULL_MIB));
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    let mut command = scene.command(["exec", &container.id, "cat"]);
    let mut exec = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let feeder = feed(exec.stdin.take().unwrap(), bytes.clone());
    let output = exec.wait_with_output().unwrap();
    feeder.join().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout.len(), bytes.len());
    assert_eq!(sum(&output.stdout), sum(&bytes));
    container.remove();
}

fn stdin_can_be_closed_while_output_goes_on(scene: &Scene) {
    let bundle = scene.shell("wc -c; sleep 0.3; echo still here");
    let mut command = scene.command(["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id]);
    let mut run = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = run.stdout.take().unwrap();
    run.stdin.take().unwrap().write_all(b"12345").unwrap();
    assert_eq!(wait::for_text(&mut output, "\n").trim(), "5");
    assert_eq!(wait::for_text(&mut output, "\n"), "still here\n");
    assert!(run.wait().unwrap().success());
}

fn stdout_and_stderr_stay_apart(scene: &Scene) {
    let script = "i=0; while [ $i -lt 200 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done";
    let output = scene.run(&scene.shell(script));
    let lines = |word: &str| {
        (0..200)
            .map(|number| format!("{word} {number}\n"))
            .collect::<String>()
    };
    assert_eq!(
        (output.code, output.stdout, output.stderr),
        (0, lines("out"), lines("err"))
    );
}

fn the_last_line_before_the_exit_is_never_lost(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    for number in 0..scene.settings.count(1000) {
        let line = format!("last line {number}");
        let code = number % 200;
        let output = container.exec(&["sh", "-c", &format!("echo {line}; exit {code}")]);
        assert_eq!(
            (output.code, output.stdout),
            (code.try_into().unwrap(), format!("{line}\n"))
        );
    }
    container.remove();
}

fn a_reader_that_is_slow_gets_everything(scene: &Scene) {
    let bundle = scene.shell("seq 1 200000; echo end");
    let (mut reader, writer) = std::io::pipe().unwrap();
    let streams = [Stdio::null(), writer.into(), Stdio::null()];
    let container = scene.create_with_streams(&bundle, streams);
    container.start();
    // The pipe is full long before the container is done; it waits for its reader.
    container.assert_status("running");
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    let wanted: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    assert!(text == wanted + "end\n", "{} bytes came", text.len());
    assert_eq!(container.wait(), 0);
    container.delete();
}

fn output_nobody_reads_does_not_block_the_end(scene: &Scene) {
    let bundle = scene.shell("seq 1 200000; echo $? >/tmp/status; exit 3");
    let (reader, writer) = std::io::pipe().unwrap();
    let streams = [Stdio::null(), writer.into(), Stdio::null()];
    let container = scene.create_with_streams(&bundle, streams);
    container.start();
    drop(reader);
    assert_eq!(container.wait(), 3);
    container.delete();
}

/// The reader of what a detached container, and a detached exec, writes.
fn output_ends_for_its_reader_when_the_program_closes_it(scene: &Scene) {
    let script = "echo hello; exec >&- 2>&-; exec sleep 1000";
    let (mut reader, writer) = std::io::pipe().unwrap();
    let streams = [
        Stdio::null(),
        writer.try_clone().unwrap().into(),
        writer.into(),
    ];
    let container = scene.create_with_streams(&scene.shell(script), streams);
    container.start();
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    // Behind the warning of an emulated machine.
    assert!(said.ends_with("hello\n"), "{said}");
    container.assert_status("running");

    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut exec = scene.command(["exec", "--detach", &container.id, "sh", "-c", script]);
    exec.stdout(writer.try_clone().unwrap()).stderr(writer);
    assert!(exec.status().unwrap().success());
    drop(exec);
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert_eq!(said, "hello\n");
    container.assert_status("running");
    container.remove();
}
