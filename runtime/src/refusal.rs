//! What config.json may not ask for, each by name.
//!
//! Owns one table of members that caisson can't apply; everything else in the
//! specification is applied by the host (`plan`) or by the agent, which
//! refuses in turn what it does not know. Nothing is dropped in silence.

use serde_json::Value;

/// A member of config.json that can't be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("config.json: {field} is not supported: {reason}")]
pub struct Error {
    /// Path of the member, dots between names.
    pub field: String,
    /// Why, and what to do instead.
    pub reason: &'static str,
}

const NOT_YET: &str = "this version of caisson can't apply it; remove it from the configuration";
const OTHER_SYSTEM: &str = "caisson runs Linux containers";

/// JSON pointers whose presence with any content is refused.
const REFUSED: &[(&str, &str)] = &[
    ("/hooks/prestart", NOT_YET),
    ("/hooks/createRuntime", NOT_YET),
    ("/hooks/createContainer", NOT_YET),
    ("/hooks/startContainer", NOT_YET),
    ("/hooks/poststart", NOT_YET),
    ("/hooks/poststop", NOT_YET),
    (
        "/process/apparmorProfile",
        "the guest kernel has no AppArmor; the machine is the boundary",
    ),
    ("/process/selinuxLabel", NOT_YET),
    ("/process/scheduler", NOT_YET),
    ("/process/ioPriority", NOT_YET),
    ("/process/execCPUAffinity", NOT_YET),
    ("/linux/seccomp", NOT_YET),
    ("/linux/mountLabel", NOT_YET),
    ("/linux/intelRdt", NOT_YET),
    ("/linux/memoryPolicy", NOT_YET),
    ("/linux/netDevices", NOT_YET),
    ("/linux/timeOffsets", NOT_YET),
    ("/linux/personality", NOT_YET),
    ("/linux/resources/blockIO", NOT_YET),
    ("/linux/resources/hugepageLimits", NOT_YET),
    ("/linux/resources/network", NOT_YET),
    ("/linux/resources/rdma", NOT_YET),
    (
        "/linux/resources/cpu/realtimeRuntime",
        "cgroup v2 has no realtime budget",
    ),
    (
        "/linux/resources/cpu/realtimePeriod",
        "cgroup v2 has no realtime budget",
    ),
    ("/vm", NOT_YET),
    ("/windows", OTHER_SYSTEM),
    ("/solaris", OTHER_SYSTEM),
    ("/zos", OTHER_SYSTEM),
    ("/freebsd", OTHER_SYSTEM),
];

const FOREIGN_NAMESPACE: &str =
    "a namespace of another container or of the host can't reach into a machine";
const HOST_NETWORK: &str = "a machine can't use the host's network stack; give the container a network namespace and publish its ports";

/// Finds the first member that can't be applied.
///
/// # Errors
/// That member, with the reason.
pub fn check(config: &Value) -> Result<(), Error> {
    check_table(config)?;
    check_namespaces(config)
}

/// The same for the `process` object of an exec.
///
/// # Errors
/// The first member that can't be applied, with the reason.
pub fn check_process(process: &Value) -> Result<(), Error> {
    check_table(&serde_json::json!({ "process": process }))
}

fn check_table(config: &Value) -> Result<(), Error> {
    let refused = REFUSED
        .iter()
        .find(|(pointer, _)| config.pointer(pointer).is_some_and(has_content));
    match refused {
        Some((pointer, reason)) => Err(Error {
            field: pointer.trim_start_matches('/').replace('/', "."),
            reason,
        }),
        None => Ok(()),
    }
}

fn check_namespaces(config: &Value) -> Result<(), Error> {
    let namespaces = config
        .pointer("/linux/namespaces")
        .and_then(Value::as_array);
    let mut has_network = false;
    for namespace in namespaces.into_iter().flatten() {
        let kind = namespace["type"].as_str().unwrap_or_default();
        has_network |= kind == "network";
        let foreign = kind != "network" && namespace.get("path").is_some_and(has_content);
        if foreign {
            let field = format!("linux.namespaces ({kind} with a path)");
            return Err(Error {
                field,
                reason: FOREIGN_NAMESPACE,
            });
        }
    }
    if has_network {
        return Ok(());
    }
    Err(Error {
        field: "linux.namespaces (no network: the host's)".into(),
        reason: HOST_NETWORK,
    })
}

/// Empty values ask for nothing: Docker writes many of them.
fn has_content(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => members.values().any(has_content),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(pointer: &str, value: Value) -> Value {
        let mut config = json!({
            "process": {}, "hooks": {},
            "linux": {"namespaces": [{"type": "network"}], "resources": {"cpu": {}}},
        });
        let mut node = &mut config;
        for name in pointer.trim_start_matches('/').split('/') {
            node = &mut node[name];
        }
        *node = value;
        config
    }

    #[test]
    fn every_refused_member_is_named() {
        for (pointer, _) in REFUSED {
            let err = check(&with(pointer, json!({"a": "b"}))).unwrap_err();
            assert_eq!(err.field, pointer[1..].replace('/', "."));
        }
    }

    #[test]
    fn empty_members_ask_for_nothing() {
        for value in [
            json!(null),
            json!([]),
            json!({}),
            json!(""),
            json!({"weight": 0}),
        ] {
            check(&with("/linux/resources/blockIO", value)).unwrap();
        }
    }

    #[test]
    fn the_hosts_network_and_foreign_namespaces_are_refused() {
        check(&json!({"linux": {"namespaces": [{"type": "pid"}]}})).unwrap_err();
        let foreign = json!({"linux": {"namespaces": [
            {"type": "network", "path": "/run/netns/a"}, {"type": "ipc", "path": "/proc/1/ns/ipc"},
        ]}});
        let err = check(&foreign).unwrap_err();
        assert!(err.field.contains("ipc"), "{}", err.field);
    }
}
