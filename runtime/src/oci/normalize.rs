//! Words of the runtime specification that the types of the oci-spec crate don't
//! read as they are written there.
//!
//! Owns the list of them. Everything past it, also in the guest, sees the
//! crate's words.

use oci_spec::runtime::Capability;
use serde_json::Value;

/// Rewrites the `process` object; `true` if there was anything to rewrite.
pub(crate) fn normalize_process(process: &mut Value) -> bool {
    let steps = [
        respell_scheduler_flags,
        drop_empty_affinity,
        drop_unknown_capabilities,
    ];
    steps.map(|step| step(process)).contains(&true)
}

/// The crate makes its words from the names of its variants.
fn respell_scheduler_flags(process: &mut Value) -> bool {
    let flags = process.pointer_mut("/scheduler/flags");
    let mut changed = false;
    for flag in flags.and_then(Value::as_array_mut).into_iter().flatten() {
        let own = match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => "SCHED_RESET_ON_FORK",
            Some("SCHED_FLAG_DL_OVERRUN") => "SCHED_FLAG_D_L_OVERRUN",
            _ => continue,
        };
        *flag = own.into();
        changed = true;
    }
    changed
}

/// An empty list of CPUs means none was given, but the crate wants a number.
fn drop_empty_affinity(process: &mut Value) -> bool {
    let affinity = process.pointer_mut("/execCPUAffinity");
    let Some(affinity) = affinity.and_then(Value::as_object_mut) else {
        return false;
    };
    let before = affinity.len();
    affinity.retain(|_, list| list != "");
    affinity.len() != before
}

/// A capability of a kernel that is newer than the crate can't be granted, which
/// is no error (runtime-spec config.md, "Linux Process").
fn drop_unknown_capabilities(process: &mut Value) -> bool {
    let sets = process.pointer_mut("/capabilities");
    let mut changed = false;
    for set in sets
        .and_then(Value::as_object_mut)
        .into_iter()
        .flat_map(|sets| sets.values_mut())
    {
        let Some(names) = set.as_array_mut() else {
            continue;
        };
        let before = names.len();
        names.retain(|name| {
            !name.is_string() || serde_json::from_value::<Capability>(name.clone()).is_ok()
        });
        changed |= names.len() != before;
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::Process;
    use serde_json::json;

    #[test]
    fn what_the_specification_says_can_be_read() {
        let every = [
            "RESET_ON_FORK",
            "RECLAIM",
            "DL_OVERRUN",
            "KEEP_POLICY",
            "KEEP_PARAMS",
            "UTIL_CLAMP_MIN",
            "UTIL_CLAMP_MAX",
        ];
        let flags = every.map(|name| format!("SCHED_FLAG_{name}"));
        let mut process = json!({
            "cwd": "/", "user": {"uid": 0, "gid": 0},
            "scheduler": {"policy": "SCHED_DEADLINE", "flags": flags},
            "execCPUAffinity": {"initial": "", "final": "0-1"},
            "capabilities": {"bounding": ["CAP_KILL", "CAP_OF_TOMORROW"]},
        });
        assert!(normalize_process(&mut process));
        let process: Process = serde_json::from_value(process).unwrap();
        let read = process.scheduler().as_ref().unwrap().flags().clone();
        assert_eq!(read.unwrap().len(), every.len());
    }

    #[test]
    fn other_processes_stay_as_they_are() {
        let process = json!({"cwd": "/", "args": ["SCHED_FLAG_DL_OVERRUN"]});
        let mut same = process.clone();
        assert!(!normalize_process(&mut same));
        assert_eq!(same, process);
    }
}
