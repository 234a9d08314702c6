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

/// A line for names that an OCI `process` object has and Linux doesn't. The text is
/// runc's.
pub(crate) fn unknown(process: &Value) -> Option<String> {
    let mut unknown: Vec<&str> = SETS.iter().flat_map(|set| names(process, set)).collect();
    unknown.retain(|name| !is_known(name));
    unknown.sort_unstable();
    unknown.dedup();
    let list = unknown.join(" ");
    (!unknown.is_empty()).then(|| format!("ignoring unknown or unavailable capabilities: [{list}]"))
}

/// A line for each capability that can't be ambient, because it is not permitted and
/// inheritable too. The texts are runc's. Engines ask for them in every container of
/// an ordinary user, so they are for a log and not for a terminal.
pub(crate) fn not_raised(process: &Value) -> Vec<String> {
    let [permitted, inheritable] = ["permitted", "inheritable"].map(|set| names(process, set));
    let ambient = names(process, "ambient").into_iter();
    ambient
        .filter(|name| is_known(name))
        .filter(|name| !permitted.contains(name) || !inheritable.contains(name))
        .map(|name| format!("can't raise ambient capability {name}: operation not permitted"))
        .collect()
}

fn names<'a>(process: &'a Value, set: &str) -> Vec<&'a str> {
    let list = process["capabilities"][set].as_array();
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
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
            unknown(&process).unwrap(),
            "ignoring unknown or unavailable capabilities: [CAP_OF_TOMORROW]"
        );
        assert_eq!(
            not_raised(&process),
            ["can't raise ambient capability CAP_KILL: operation not permitted"]
        );
        for quiet in [
            json!({}),
            json!({"capabilities": {"ambient": null}}),
            json!(null),
        ] {
            assert_eq!(unknown(&quiet), None);
            assert_eq!(not_raised(&quiet), Vec::<String>::new());
        }
    }
}
