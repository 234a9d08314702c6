//! Hooks as real programs: what they are given and how their ends are told.

use super::*;
use crate::hooks::Hooks;

/// A container whose only hooks are these shell scripts, all of kind createRuntime.
fn record(scripts: &[&str], timeout: Option<i64>) -> Record {
    let hook = |script: &&str| json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["K=v"], "timeout": timeout});
    let hooks: Vec<Value> = scripts.iter().map(hook).collect();
    let kinds = json!({"createRuntime": hooks, "poststop": hooks});
    Record {
        oci_version: "1.2.0".into(),
        bundle: std::env::temp_dir(),
        annotations: [("a".to_owned(), "b".to_owned())].into(),
        hooks: Hooks::planned(Some(&serde_json::from_value(kinds).unwrap())).unwrap(),
        ..Record::new("web1")
    }
}

fn error_of(record: &Record) -> String {
    chain(&run(HookKind::CreateRuntime, record, 7).unwrap_err())
}

#[test]
fn a_hook_gets_the_state_the_environment_and_the_bundle_and_nothing_else() {
    let script = "pwd; cat; echo; while read v; do :; done </proc/self/environ; tr '\\0' ' ' </proc/self/environ; exit 3";
    let line = error_of(&record(&[script], None));
    let state = format!(
        "{{\"annotations\":{{\"a\":\"b\"}},\"bundle\":\"{0}\",\"id\":\"web1\",\"ociVersion\":\"1.2.0\",\"pid\":7,\"status\":\"creating\"}}",
        std::env::temp_dir().display()
    );
    let expected = format!(
        "error running createRuntime hook #0: exit status: 3, stdout: {} {state} K=v, stderr: ",
        std::env::temp_dir().display()
    );
    assert_eq!(line, expected);
}

#[test]
fn a_hook_without_an_environment_has_this_programs() {
    let mut record = record(&[], None);
    let script = "printf %s \"$PATH\"; exit 3";
    let hooks = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    record.hooks = Hooks::planned(Some(&serde_json::from_value(hooks).unwrap())).unwrap();
    let path = std::env::var("PATH").unwrap();
    assert!(error_of(&record).contains(&format!("stdout: {path}, ")));
}

#[test]
fn the_first_failure_stops_the_rest() {
    let line = error_of(&record(&["true", "echo no >&2; false", "exit 9"], None));
    assert_eq!(
        line,
        "error running createRuntime hook #1: exit status: 1, stdout: , stderr: no"
    );
}

#[test]
fn every_poststop_hook_runs() {
    let failed = failures_of_poststop(&record(&["false", "true", "exit 2"], None));
    let indices: Vec<usize> = failed.iter().map(|err| err.index).collect();
    assert_eq!(indices, [0, 2]);
}

#[test]
fn a_late_hook_is_killed_with_its_children() {
    let line = error_of(&record(&["sleep 1000; true"], Some(1)));
    assert_eq!(
        line,
        "error running createRuntime hook #0: hook ran past specified timeout of 1.0s"
    );
}

#[test]
fn output_without_end_is_cut_and_holds_nobody_up() {
    let line = error_of(&record(&["sleep 5 & yes | head -c 1000000; false"], None));
    assert!(line.len() < 1200, "{} bytes", line.len());
}

#[test]
fn a_missing_program_is_named() {
    let mut record = record(&[], None);
    let hooks = json!({"createRuntime": [{"path": "/nowhere/at/all"}]});
    record.hooks = Hooks::planned(Some(&serde_json::from_value(hooks).unwrap())).unwrap();
    assert_eq!(
        error_of(&record),
        "error running createRuntime hook #0: start /nowhere/at/all: no such file or directory"
    );
}
