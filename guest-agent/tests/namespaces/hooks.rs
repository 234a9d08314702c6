//! Hooks of kind startContainer.

use super::host::Host;
use serde_json::{Value, json};

fn with_hooks(host: &Host, hooks: &Value) -> Value {
    let mut spec = host.spec(&["cat", "/data/told"]);
    spec["hooks"] = json!({ "startContainer": hooks });
    spec
}

fn shell(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-ec", script], "env": ["PATH=/bin", "OWN=yes"]})
}

pub(crate) fn start_hooks_run_in_the_container(host: &Host) {
    let mut inheriting = shell("echo $HOME $OWN >>/data/told");
    inheriting.as_object_mut().unwrap().remove("env");
    let hooks = json!([
        shell(
            "cat >/data/told; echo >>/data/told; echo $OWN $HOME >>/data/told; hostname >>/data/told"
        ),
        inheriting,
    ]);
    let spec = with_hooks(host, &hooks);
    let collected = host.create("hooked", &spec, b"").unwrap();
    let told = std::path::Path::new(spec["root"]["path"].as_str().unwrap()).join("data/told");
    assert!(!told.exists(), "before the start");
    host.start("hooked").unwrap();
    let output = String::from_utf8(collected.stdout()).unwrap();
    let mut lines = output.lines();
    let state: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(
        state,
        json!({"id": "hooked", "status": "created", "pid": 1})
    );
    assert_eq!(lines.collect::<Vec<_>>(), ["yes", "inside", "/root"]);
}

pub(crate) fn a_failing_start_hook_ends_the_container(host: &Host) {
    let mut late = shell("sleep 1000; true");
    late["timeout"] = 1.into();
    let cases = [
        (
            shell("echo said; echo why >&2; exit 3"),
            "exit status: 3, stdout: said, stderr: why",
        ),
        (
            json!({"path": "/nothing"}),
            "start /nothing: no such file or directory",
        ),
        (late, "hook ran past specified timeout of 1.0s"),
    ];
    for (number, (hook, reason)) in cases.into_iter().enumerate() {
        let id = format!("failing{number}");
        let hooks = json!([shell("true"), hook, shell("touch /data/late")]);
        let spec = with_hooks(host, &hooks);
        drop(host.create(&id, &spec, b"").unwrap());
        let refused = host.start(&id).unwrap_err();
        assert_eq!(
            refused,
            format!("error running startContainer hook #1: {reason}")
        );
        assert_eq!(host.exit(&id, "").status, 1);
        let late = std::path::Path::new(spec["root"]["path"].as_str().unwrap()).join("data/late");
        assert!(!late.exists());
        host.delete(&id).unwrap();
    }
}
