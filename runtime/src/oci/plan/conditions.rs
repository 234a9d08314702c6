//! What must hold between fields of config.json, and of each value of a process, before
//! anything is begun.
//!
//! Owns the conditions that the guest, or its kernel, would only find broken once the
//! machine has booted. The texts are runc's where it has them. What can't be applied at
//! all is `fields`'.

use std::collections::HashSet;

use caisson_protocol::is_ipc_setting;
use serde_json::Value;

/// Bytes of arguments and variables that Linux gives a process at most, with a pointer
/// for each, where its limit of the stack allows it (execve(2)); less, since a message
/// to the guest's agent holds no more.
const MAX_ARGUMENTS_LEN: u64 = 3 << 20;
/// Whatever that limit is, so much is allowed (execve(2)).
const MIN_ARGUMENTS_LEN: u64 = 128 << 10;
/// Bytes of one argument or variable at most, with the zero at its end (execve(2)).
const MAX_ARGUMENT_LEN: usize = 128 << 10;
/// Of the guest's kernel, where config.json sets none.
const DEFAULT_STACK_LEN: u64 = 8 << 20;
const POINTER_LEN: u64 = 8;

/// A condition that doesn't hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unmet(String);

fn unmet(text: impl Into<String>) -> Result<(), Unmet> {
    Err(Unmet(text.into()))
}

/// Checks a whole configuration.
///
/// # Errors
/// The first condition that doesn't hold.
pub fn check(config: &Value) -> Result<(), Unmet> {
    let namespaces = namespaces(config)?;
    check_names(config, &namespaces)?;
    check_settings(config, &namespaces)?;
    items(&config["mounts"]).try_for_each(check_mount)?;
    check_process(&config["process"])
}

/// Checks the `process` object of a configuration or an exec.
///
/// # Errors
/// The first condition that doesn't hold.
pub fn check_process(process: &Value) -> Result<(), Unmet> {
    match process["cwd"].as_str() {
        None | Some("") => unmet("Cwd property must not be empty")?,
        Some(cwd) if !cwd.starts_with('/') => unmet("Cwd must be an absolute path")?,
        Some(_) => {}
    }
    texts(&process["env"]).try_for_each(check_variable)?;
    if let Some(argument) = texts(&process["args"]).find(|text| text.contains('\0')) {
        unmet(format!(
            "process.args: {argument:?} can't contain null (\\x00)"
        ))?;
    }
    let mut kinds = HashSet::new();
    for limit in items(&process["rlimits"]) {
        let kind = limit["type"].as_str().unwrap_or_default();
        if !kinds.insert(kind) {
            unmet(format!("process.rlimits: {kind} is given twice"))?;
        }
    }
    check_len(process)
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    items(list).filter_map(Value::as_str)
}

/// The types of the container's namespaces.
fn namespaces(config: &Value) -> Result<HashSet<&str>, Unmet> {
    let mut types = HashSet::new();
    for namespace in items(&config["linux"]["namespaces"]) {
        let kind = namespace["type"].as_str().unwrap_or_default();
        if !types.insert(kind) {
            unmet(format!("malformed spec file: duplicated ns {kind:?}"))?;
        }
    }
    Ok(types)
}

fn check_names(config: &Value, namespaces: &HashSet<&str>) -> Result<(), Unmet> {
    for name in ["hostname", "domainname"] {
        let is_set = config[name].as_str().is_some_and(|text| !text.is_empty());
        if is_set && !namespaces.contains("uts") {
            unmet(format!(
                "unable to set {name} without a private UTS namespace"
            ))?;
        }
    }
    Ok(())
}

fn check_settings(config: &Value, namespaces: &HashSet<&str>) -> Result<(), Unmet> {
    let settings = config["linux"]["sysctl"].as_object();
    let mut names = settings.into_iter().flatten().map(|(name, _)| name);
    names.try_for_each(|name| check_setting(name, namespaces))
}

/// As runc decides it: what IPC, network and UTS namespaces keep apart.
fn check_setting(name: &str, namespaces: &HashSet<&str>) -> Result<(), Unmet> {
    let leads_elsewhere = name.split(['/']).any(|part| part == "..");
    let dotted = name.replace('/', ".");
    let is_of_ipc = is_ipc_setting(&dotted);
    let has_uts = namespaces.contains("uts");
    match dotted.as_str() {
        _ if leads_elsewhere => {}
        _ if is_of_ipc && namespaces.contains("ipc") => return Ok(()),
        _ if is_of_ipc => unmet(format!(
            "sysctl {name:?} is not allowed in the hosts ipc namespace"
        ))?,
        "kernel.domainname" if has_uts => return Ok(()),
        "kernel.hostname" if has_uts => unmet(format!(
            "sysctl {name:?} is not allowed as it conflicts with the OCI \"hostname\" field"
        ))?,
        // The machine is the container's network.
        dotted if dotted.starts_with("net.") => return Ok(()),
        _ => {}
    }
    unmet(format!(
        "sysctl {name:?} is not in a separate kernel namespace"
    ))
}

fn check_mount(mount: &Value) -> Result<(), Unmet> {
    const WITHOUT_TYPE: [&str; 3] = ["bind", "rbind", "remount"];
    let has_type = mount["type"].as_str().is_some_and(|kind| !kind.is_empty());
    if has_type || texts(&mount["options"]).any(|option| WITHOUT_TYPE.contains(&option)) {
        return Ok(());
    }
    let destination = mount["destination"].as_str().unwrap_or_default();
    unmet(format!(
        "mounts: {destination} has neither a type nor the option bind"
    ))
}

fn check_variable(entry: &str) -> Result<(), Unmet> {
    if entry.contains('\0') {
        return unmet(format!(
            "environment variable value can't contain null(\\x00): {entry:?}"
        ));
    }
    match entry.split_once('=') {
        None => unmet(format!("invalid environment variable: {entry:?}")),
        Some(("", _)) => unmet(format!(
            "environment variable name can't be empty: {entry:?}"
        )),
        Some(_) => Ok(()),
    }
}

/// The kernel's rule, before the process gets there.
fn check_len(process: &Value) -> Result<(), Unmet> {
    let all = || texts(&process["args"]).chain(texts(&process["env"]));
    let len = |text: &str| text.len() as u64 + 1 + POINTER_LEN;
    let is_too_long = all().any(|text| text.len() >= MAX_ARGUMENT_LEN);
    let sum: u64 = all().map(len).sum();
    let allowed = (stack_len(process) / 4).clamp(MIN_ARGUMENTS_LEN, MAX_ARGUMENTS_LEN);
    if !is_too_long && sum <= allowed {
        return Ok(());
    }
    let program = texts(&process["args"]).next().unwrap_or_default();
    unmet(format!("exec: {program:?}: argument list too long"))
}

fn stack_len(process: &Value) -> u64 {
    let limit = items(&process["rlimits"]).find(|limit| limit["type"] == "RLIMIT_STACK");
    let soft = limit.and_then(|limit| limit["soft"].as_u64());
    soft.unwrap_or(DEFAULT_STACK_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config() -> Value {
        json!({
            "hostname": "box",
            "process": {"cwd": "/", "args": ["true"], "env": ["A=b", "C="]},
            "mounts": [{"destination": "/proc", "type": "proc"}],
            "linux": {"namespaces": [{"type": "uts"}, {"type": "ipc"}, {"type": "network"}]},
        })
    }

    #[track_caller]
    fn fails(pointer: &str, value: Value, text: &str) {
        let mut config = config();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[name] = value;
        assert_eq!(check(&config).unwrap_err().to_string(), text);
    }

    #[test]
    fn what_runc_refuses_is_refused_in_its_words() {
        check(&config()).unwrap();
        let without_uts = json!([{"type": "ipc"}]);
        let text = "unable to set hostname without a private UTS namespace";
        fails("/linux/namespaces", without_uts, text);
        let twice = json!([{"type": "uts"}, {"type": "pid"}, {"type": "pid"}]);
        let text = "malformed spec file: duplicated ns \"pid\"";
        fails("/linux/namespaces", twice, text);
        let text = "mounts: /x has neither a type nor the option bind";
        fails(
            "/mounts",
            json!([{"destination": "/x", "source": "/tmp"}]),
            text,
        );
        for (entry, text) in [
            ("X", "invalid environment variable: \"X\""),
            ("", "invalid environment variable: \"\""),
            ("=x", "environment variable name can't be empty: \"=x\""),
            (
                "A=\0b",
                "environment variable value can't contain null(\\x00): \"A=\\0b\"",
            ),
        ] {
            fails("/process/env", json!([entry]), text);
        }
        fails("/process/cwd", json!("tmp"), "Cwd must be an absolute path");
        let limit = json!({"type": "RLIMIT_CORE", "soft": 0, "hard": 0});
        let text = "process.rlimits: RLIMIT_CORE is given twice";
        fails("/process/rlimits", json!([limit, limit]), text);
    }

    #[test]
    fn a_setting_is_the_containers_own_by_its_namespaces() {
        let all = HashSet::from(["ipc", "uts"]);
        for own in [
            "net.ipv4.ip_forward",
            "net/core/somaxconn",
            "net.ipv4.conf.eth0/1.forwarding",
            "fs.mqueue.msg_max",
            "kernel.sem",
            "kernel.domainname",
        ] {
            check_setting(own, &all).unwrap();
        }
        for (name, text) in [
            ("vm.swappiness", "is not in a separate kernel namespace"),
            ("network.x", "is not in a separate kernel namespace"),
            (
                "net/../kernel/panic",
                "is not in a separate kernel namespace",
            ),
            (
                "kernel.hostname",
                "is not allowed as it conflicts with the OCI \"hostname\" field",
            ),
        ] {
            let err = check_setting(name, &all).unwrap_err().to_string();
            assert_eq!(err, format!("sysctl {name:?} {text}"));
        }
        let none = HashSet::new();
        let err = check_setting("kernel.sem", &none).unwrap_err().to_string();
        assert!(
            err.ends_with("is not allowed in the hosts ipc namespace"),
            "{err}"
        );
        check_setting("kernel.domainname", &none).unwrap_err();
    }

    #[test]
    fn arguments_are_as_long_as_linux_allows() {
        let entry = |number: usize| format!("A{number}={}", "x".repeat(100_000));
        let with = |count: usize| {
            let entries: Vec<String> = (0..count).map(entry).collect();
            json!({"cwd": "/", "args": ["true"], "env": entries})
        };
        check_process(&with(20)).unwrap();
        let text = "exec: \"true\": argument list too long";
        for too_much in [with(21), with(60)] {
            assert_eq!(check_process(&too_much).unwrap_err().to_string(), text);
        }
        let one = json!({"cwd": "/", "args": ["true", "x".repeat(MAX_ARGUMENT_LEN)]});
        assert_eq!(check_process(&one).unwrap_err().to_string(), text);
        let mut small_stack = with(2);
        small_stack["rlimits"] = json!([{"type": "RLIMIT_STACK", "soft": 1, "hard": 1}]);
        assert_eq!(check_process(&small_stack).unwrap_err().to_string(), text);
    }
}
