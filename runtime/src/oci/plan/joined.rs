//! Namespaces that containers in one machine share: config.json names them by the
//! pid of a process on the host, the guest by the container that this stands for.
//!
//! Owns that translation. The network's is the machine's, and needs none.

use std::collections::HashMap;

use caisson_protocol::JOINED_PREFIX;
use serde_json::Value;

/// Kinds of namespaces, with the containers whose they are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Joined(HashMap<String, String>);

impl Joined {
    /// What of `config` names one of `group`, pids and names.
    pub(crate) fn of(config: &Value, group: &[(i32, String)]) -> Self {
        let owner = |path: &str| {
            let (pid, _) = path.strip_prefix("/proc/")?.split_once("/ns/")?;
            let pid: i32 = pid.parse().ok()?;
            let found = group.iter().find(|(owner, _)| *owner == pid);
            found.map(|(_, id)| id.clone())
        };
        let joined = namespaces(config).iter().filter_map(|namespace| {
            let kind = namespace["type"].as_str()?;
            let id = owner(namespace["path"].as_str()?)?;
            (kind != "network").then(|| (kind.to_owned(), id))
        });
        Self(joined.collect())
    }

    /// The configuration as if these were the container's own.
    pub(crate) fn without_paths(&self, config: &Value) -> Value {
        let mut config = config.clone();
        self.change(&mut config, |_| Value::Null);
        config
    }

    /// The guest's configuration with the names that the guest knows.
    pub(crate) fn named(&self, mut config: Value) -> Value {
        self.change(&mut config, |id| format!("{JOINED_PREFIX}{id}").into());
        config
    }

    fn change(&self, config: &mut Value, path: impl Fn(&str) -> Value) {
        let found = config.pointer_mut("/linux/namespaces");
        for namespace in found.and_then(Value::as_array_mut).into_iter().flatten() {
            let id = namespace["type"].as_str().and_then(|kind| self.0.get(kind));
            if let Some(id) = id {
                namespace["path"] = path(id);
            }
        }
    }
}

fn namespaces(config: &Value) -> &[Value] {
    let found = config
        .pointer("/linux/namespaces")
        .and_then(Value::as_array);
    found.map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pid_of_the_group_becomes_the_name_of_its_container() {
        let config = json!({"linux": {"namespaces": [
            {"type": "ipc", "path": "/proc/77/ns/ipc"}, {"type": "pid", "path": "/proc/8/ns/pid"},
            {"type": "uts"}, {"type": "network", "path": "/proc/77/ns/net"},
        ]}});
        let joined = Joined::of(&config, &[(77, "pod".to_owned())]);
        let own = joined.without_paths(&config);
        assert!(own["linux"]["namespaces"][0]["path"].is_null());
        assert_eq!(own["linux"]["namespaces"][1]["path"], "/proc/8/ns/pid");
        assert_eq!(own["linux"]["namespaces"][3]["path"], "/proc/77/ns/net");
        let named = joined.named(own);
        let path = format!("{JOINED_PREFIX}pod");
        assert_eq!(named["linux"]["namespaces"][0]["path"], path);
        assert!(named["linux"]["namespaces"][2].get("path").is_none());
    }
}
