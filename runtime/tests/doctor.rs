//! `caisson doctor` as a program: what it prints of the host that the tests run on, and
//! with which exit status it ends.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Runs it with this configuration, and a state directory that is private.
fn doctor(config: &str, arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    fs::write(&file, config).unwrap();
    Command::new(env!("CARGO_BIN_EXE_caisson"))
        .arg("--root")
        .arg(directory.path().join("state"))
        .arg("doctor")
        .args(arguments)
        .env("CAISSON_CONFIG", &file)
        .output()
        .unwrap()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn result<'r>(report: &'r Value, name: &str) -> &'r str {
    let mut checks = report["checks"].as_array().unwrap().iter();
    let check = checks.find(|check| check["name"] == name).unwrap();
    check["result"].as_str().unwrap()
}

#[test]
fn a_host_without_the_rest_of_caisson_fails_by_name() {
    let output = doctor("prefix = \"/nowhere\"\n", &["--json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report = report(&output);
    assert_eq!(report["result"], "FAIL");
    assert_eq!(report["caisson_version"], env!("CARGO_PKG_VERSION"));
    assert!(report["checks"].as_array().unwrap().len() >= 20);
    for (name, expected) in [
        ("configuration", "OK"),
        ("helpers", "FAIL"),
        ("guest-kernel", "FAIL"),
        ("state-directory", "OK"),
    ] {
        assert_eq!(result(&report, name), expected, "{name}: {report:#}");
    }
    let kvm_exists = Path::new("/dev/kvm").exists();
    assert_eq!(result(&report, "kvm-device") == "OK", kvm_exists);
}

#[test]
fn a_broken_configuration_is_reported_like_any_fault() {
    let output = doctor("machin = 1\n", &["configuration"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("FAIL  configuration  "), "{text}");
    assert!(text.contains("unknown field `machin`"), "{text}");
    assert!(text.ends_with("\n0 OK, 0 WARN, 1 FAIL\n"), "{text}");
}

#[test]
fn warnings_do_not_change_the_exit_status() {
    let config = "machine = \"tcg\"\nallowed_kernels = [\"/nowhere\"]\n";
    let output = doctor(config, &["configuration", "--json"]);
    assert_eq!(report(&output)["result"], "WARN", "{output:?}");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn an_unknown_check_is_an_error() {
    let output = doctor("", &["nonsense"]);
    assert_eq!(output.status.code(), Some(1));
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(
        line.starts_with("caisson: no check is called \"nonsense\""),
        "{line}"
    );
}
