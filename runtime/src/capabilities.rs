//! Capabilities of a process that it is asked to have and won't.
//!
//! Owns what the log says of them; the guest leaves them out, as the runtime
//! specification asks. Knows names, not rights.

use oci_spec::runtime::Capability;
use serde_json::Value;

const SETS: [&str; 5] = [
    "bounding",
    "effective",
    "permitted",
    "inheritable",
    "ambient",
];

/// A line for each thing that an OCI `process` object asks for in vain. The texts
/// are runc's.
pub(crate) fn remarks(process: &Value) -> Vec<String> {
    let sets = &process["capabilities"];
    let names = |set: &str| -> Vec<&str> {
        let list = sets[set].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).collect()
    };
    let mut unknown: Vec<&str> = SETS.iter().flat_map(|set| names(set)).collect();
    unknown.retain(|name| !is_known(name));
    unknown.sort_unstable();
    unknown.dedup();
    let mut remarks = Vec::new();
    if !unknown.is_empty() {
        let list = unknown.join(" ");
        remarks.push(format!(
            "ignoring unknown or unavailable capabilities: [{list}]"
        ));
    }
    let [permitted, inheritable] = ["permitted", "inheritable"].map(names);
    let ambient = names("ambient").into_iter().filter(|name| is_known(name));
    remarks.extend(
        ambient
            .filter(|name| !permitted.contains(name) || !inheritable.contains(name))
            .map(|name| format!("can't raise ambient capability {name}: operation not permitted")),
    );
    remarks
}

fn is_known(name: &str) -> bool {
    serde_json::from_value::<Capability>(name.into()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_asked_for_in_vain_is_told() {
        let process = json!({"capabilities": {
            "bounding": ["CAP_KILL", "CAP_OF_TOMORROW"],
            "permitted": ["CAP_KILL", "CAP_CHOWN", "CAP_OF_TOMORROW"],
            "inheritable": ["CAP_CHOWN"],
            "ambient": ["CAP_KILL", "CAP_CHOWN", "CAP_OF_TOMORROW"],
        }});
        assert_eq!(
            remarks(&process),
            [
                "ignoring unknown or unavailable capabilities: [CAP_OF_TOMORROW]",
                "can't raise ambient capability CAP_KILL: operation not permitted",
            ]
        );
        for quiet in [
            json!({}),
            json!({"capabilities": {"ambient": null}}),
            json!(null),
        ] {
            assert_eq!(remarks(&quiet), Vec::<String>::new());
        }
    }
}
