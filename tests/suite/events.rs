//! `events` tells what a container uses and what it was denied, in runc's form.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use caisson_tests::{Scene, stories};
use serde_json::{Value, json};

stories![
    the_figures_are_those_of_the_container,
    a_kill_for_lack_of_memory_is_told_at_once,
    figures_come_at_the_interval_until_the_container_ends,
    wrong_intervals_and_absent_containers_are_refused,
];

const MIB: u64 = 1 << 20;

/// The next line of a running `events`.
#[track_caller]
fn next(lines: &mut impl BufRead) -> Value {
    let mut line = String::new();
    assert!(lines.read_line(&mut line).unwrap() > 0, "events has ended");
    serde_json::from_str(&line).unwrap()
}

fn follow(scene: &Scene, arguments: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut events = scene
        .command([&["events"], arguments].concat())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(events.stdout.take().unwrap());
    (events, lines)
}

fn the_figures_are_those_of_the_container(scene: &Scene) {
    let bundle = scene.shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exec sleep 1000");
    bundle.with_resource("memory", json!({"limit": 64 * MIB}));
    bundle.with_resource("pids", json!({"limit": 40}));
    bundle.with_resource("cpu", json!({"quota": 90_000, "period": 100_000}));
    let container = scene.started(&bundle);
    let until_it_sleeps = "until grep -q sleep /proc/1/cmdline; do sleep 0.1; done";
    container.exec(&["sh", "-c", until_it_sleeps]).exits(0);
    let line = scene.caisson(["events", "--stats", &container.id]).ok();
    let begin = format!(r#"{{"type":"stats","id":"{}","data":{{"#, container.id);
    assert!(line.starts_with(&begin), "in runc's order: {line}");
    assert_eq!(line.lines().count(), 1);
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["type"], "stats");
    assert_eq!(event["id"], container.id.as_str());
    let stats = &event["data"];
    let number = |pointer: &str| stats.pointer(pointer).and_then(Value::as_u64);
    assert_eq!(number("/pids/current"), Some(1), "{stats}");
    assert_eq!(number("/pids/limit"), Some(40));
    assert_eq!(number("/memory/usage/limit"), Some(64 * MIB));
    assert!((1..64 * MIB).contains(&number("/memory/usage/usage").unwrap()));
    assert!(number("/memory/raw/anon").is_some() && number("/memory/usage/max").is_some());
    // Nanoseconds, and the loop took more than a few thousand.
    assert!(number("/cpu/usage/total").unwrap() > 1_000_000, "{stats}");
    assert!(number("/cpu/throttling/periods").is_some(), "{stats}");
    assert!(stats.pointer("/memory/psi/some/total").is_some(), "{stats}");
    assert!(stats.pointer("/hugetlb/2MB/failcnt").is_some(), "{stats}");
    container.remove();
}

fn a_kill_for_lack_of_memory_is_told_at_once(scene: &Scene) {
    let bundle = scene.bundle(&["sleep", "1000"]);
    bundle.with_resource("memory", json!({"limit": 64 * MIB}));
    let container = scene.started(&bundle);
    let (mut events, mut lines) = follow(scene, &["--interval", "100ms", &container.id]);
    // With its first figures it follows.
    assert_eq!(next(&mut lines)["type"], "stats");
    container.exec(&["probe", "memory", "200"]).exits(137);
    let oom = json!({"type": "oom", "id": container.id});
    while next(&mut lines) != oom {}
    container.remove();
    assert!(events.wait().unwrap().success());
}

fn figures_come_at_the_interval_until_the_container_ends(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    let (mut events, mut lines) = follow(scene, &["--interval=100ms", &container.id]);
    for _ in 0..3 {
        assert_eq!(next(&mut lines)["type"], "stats");
    }
    container.verb("kill", &["KILL"]).ok();
    assert!(events.wait().unwrap().success());
    assert_eq!(container.wait(), 137);
    container.verb("events", &["--stats"]).fails(
        1,
        &format!("container with id {} is not running", container.id),
    );
    container.delete();
}

fn wrong_intervals_and_absent_containers_are_refused(scene: &Scene) {
    let output = scene.caisson(["events", "--interval", "0s", "x"]);
    output.fails(1, "duration interval must be greater than 0");
    let output = scene.caisson(["events", "--interval", "often", "x"]);
    assert!(output.error_line(1).starts_with("--interval \"often\": "));
    scene
        .caisson(["events", "--stats", "x"])
        .fails(1, "container does not exist: x");
}
