//! The request in the words of the OCI runtime specification.
//!
//! Owns the parsing and the list of fields that are refused: every field that
//! reaches the guest is applied or named in an error, never dropped.

use oci_spec::runtime::{Hook, Hooks, Linux, LinuxResources, Process, Spec};

use crate::failure::Failure;

/// Parses config.json.
///
/// # Errors
/// [`Failure::Json`], or [`Failure::Refused`] naming a field.
pub(crate) fn parse(json: &[u8]) -> Result<Spec, Failure> {
    let spec: Spec = serde_json::from_slice(json).map_err(|cause| Failure::Json {
        what: "config.json",
        cause,
    })?;
    refuse(spec.hooks().as_ref(), HOOKS)?;
    refuse(spec.process().as_ref(), PROCESS)?;
    let linux = spec.linux().as_ref();
    refuse(linux, LINUX)?;
    refuse(
        linux.and_then(|linux| linux.resources().as_ref()),
        RESOURCES,
    )?;
    Ok(spec)
}

/// Parses the `process` object of an exec.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_process(json: &[u8]) -> Result<Process, Failure> {
    let process = serde_json::from_slice(json).map_err(|cause| Failure::Json {
        what: "process",
        cause,
    })?;
    refuse(Some(&process), PROCESS)?;
    Ok(process)
}

/// Parses the `linux.resources` object of an update.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_resources(json: &[u8]) -> Result<LinuxResources, Failure> {
    let resources = serde_json::from_slice(json).map_err(|cause| Failure::Json {
        what: "resources",
        cause,
    })?;
    refuse(Some(&resources), RESOURCES)?;
    Ok(resources)
}

/// Name of a field, and whether the request has it.
type Field<T> = (&'static str, fn(&T) -> bool);

fn refuse<T>(object: Option<&T>, fields: &[Field<T>]) -> Result<(), Failure> {
    let present = |object| fields.iter().find(|(_, is_set)| is_set(object));
    match object.and_then(present) {
        Some((name, _)) => Err(refused(name)),
        None => Ok(()),
    }
}

fn refused(field: &str) -> Failure {
    Failure::Refused(format!("{field} is not supported by the guest agent"))
}

const PROCESS: &[Field<Process>] = &[
    ("process.apparmorProfile", |process| {
        process.apparmor_profile().is_some()
    }),
    ("process.selinuxLabel", |process| {
        process.selinux_label().is_some()
    }),
    ("process.commandLine", |process| {
        process.command_line().is_some()
    }),
];

/// Hooks that the host runs.
const HOOKS: &[Field<Hooks>] = &[
    ("hooks.prestart", |hooks| has_any(hooks.prestart().as_ref())),
    ("hooks.createRuntime", |hooks| {
        has_any(hooks.create_runtime().as_ref())
    }),
    ("hooks.createContainer", |hooks| {
        has_any(hooks.create_container().as_ref())
    }),
    ("hooks.poststart", |hooks| {
        has_any(hooks.poststart().as_ref())
    }),
    ("hooks.poststop", |hooks| has_any(hooks.poststop().as_ref())),
];

fn has_any(hooks: Option<&Vec<Hook>>) -> bool {
    hooks.is_some_and(|hooks| !hooks.is_empty())
}

const LINUX: &[Field<Linux>] = &[
    ("linux.seccomp", |linux| linux.seccomp().is_some()),
    ("linux.mountLabel", |linux| linux.mount_label().is_some()),
    ("linux.intelRdt", |linux| linux.intel_rdt().is_some()),
    ("linux.memoryPolicy", |linux| {
        linux.memory_policy().is_some()
    }),
    ("linux.netDevices", |linux| linux.net_devices().is_some()),
];

const RESOURCES: &[Field<LinuxResources>] = &[
    ("linux.resources.network", |resources| {
        resources.network().is_some()
    }),
    ("linux.resources.rdma", |resources| {
        resources.rdma().is_some()
    }),
    ("linux.resources.cpu.realtimeRuntime", |resources| {
        let cpu = resources.cpu().as_ref();
        cpu.is_some_and(|cpu| cpu.realtime_runtime().is_some_and(|runtime| runtime != 0))
    }),
    ("linux.resources.cpu.realtimePeriod", |resources| {
        let cpu = resources.cpu().as_ref();
        cpu.is_some_and(|cpu| cpu.realtime_period().is_some_and(|period| period != 0))
    }),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_not_applied_is_named() {
        for (json, field) in [
            (
                r#"{"ociVersion":"1.3.0","hooks":{"startContainer":[],"poststop":[{"path":"/x"}]}}"#,
                "hooks.poststop",
            ),
            (
                r#"{"ociVersion":"1.3.0","linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW"}}}"#,
                "linux.seccomp",
            ),
            (
                r#"{"ociVersion":"1.3.0","linux":{"resources":{"cpu":{"realtimePeriod":10}}}}"#,
                "linux.resources.cpu.realtimePeriod",
            ),
        ] {
            let line = parse(json.as_bytes()).unwrap_err().line();
            assert!(line.starts_with(field), "{line}");
        }
        let process = r#"{"cwd":"/","user":{"uid":0,"gid":0},"apparmorProfile":"x"}"#;
        let line = parse_process(process.as_bytes()).unwrap_err().line();
        assert!(line.starts_with("process.apparmorProfile"), "{line}");
    }

    #[test]
    fn empty_objects_ask_for_nothing() {
        let json = r#"{"ociVersion":"1.3.0","linux":{"resources":{"blockIO":{}}},"unknown":1}"#;
        assert!(parse(json.as_bytes()).is_ok());
    }

    #[test]
    fn bad_json_is_refused_with_its_place() {
        let line = parse(b"{").unwrap_err().line();
        assert!(
            line.contains("config.json") && line.contains("line 1"),
            "{line}"
        );
    }
}
