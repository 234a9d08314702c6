//! Which namespaces a machine can't have, whatever the guest does.

use serde_json::Value;

use crate::oci::fields::content::has_content;
use crate::oci::fields::error::Error;

const FOREIGN_NAMESPACE: &str =
    "a namespace of another container or of the host can't reach into a machine";
const HOST_NETWORK: &str = "a machine can't use the host's network stack; give the container a network namespace and publish its ports";

/// # Errors
/// A namespace that exists elsewhere, or the host's network.
pub(crate) fn check(config: &Value) -> Result<(), Error> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
