//! A configuration against the table: what is refused, ignored, sent on.

use std::fmt;

use serde_json::{Value, json};

use crate::oci::fields::content::has_content;
use crate::oci::fields::error::Error;
use crate::oci::fields::{Fate, Field, has_guest_rows_below, has_rows_below, namespaces, row_of};

/// A field of config.json that changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ignored(&'static Field);

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "config.json: {} is ignored: {}",
            self.0.path, self.0.note
        )
    }
}

/// Looks every field up, and tells what is ignored.
///
/// # Errors
/// The first field that can't be applied, with the reason.
pub fn check(config: &Value) -> Result<Vec<Ignored>, Error> {
    let ignored = check_table(config)?;
    namespaces::check(config)?;
    Ok(ignored)
}

/// The same for the `process` object of an exec.
///
/// # Errors
/// The first field that can't be applied, with the reason.
pub fn check_process(process: &Value) -> Result<Vec<Ignored>, Error> {
    check_table(&json!({ "process": process }))
}

/// The same for the `resources` object of an update.
///
/// # Errors
/// The first field that can't be applied, with the reason.
pub fn check_resources(resources: &Value) -> Result<Vec<Ignored>, Error> {
    check_table(&json!({ "linux": { "resources": resources } }))
}

fn check_table(config: &Value) -> Result<Vec<Ignored>, Error> {
    let mut asked = Vec::new();
    collect(config, "", &mut asked);
    asked.dedup();
    if let Some(field) = asked.iter().find(|field| field.fate == Fate::Refused) {
        return Err(Error {
            field: field.path.to_owned(),
            reason: field.note,
        });
    }
    asked.retain(|field| field.fate == Fate::Ignored);
    Ok(asked.into_iter().map(Ignored).collect())
}

/// The rows of all fields with content.
fn collect(value: &Value, path: &str, asked: &mut Vec<&'static Field>) {
    if !has_rows_below(path) {
        asked.extend(row_of(path).filter(|_| has_content(value)));
        return;
    }
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                collect(member, &join(path, name), asked);
            }
        }
        Value::Array(items) => {
            for item in items {
                collect(item, &format!("{path}[]"), asked);
            }
        }
        _ => {}
    }
}

/// The configuration without what the table doesn't send to the guest.
#[must_use]
pub fn for_guest(mut config: Value) -> Value {
    keep(&mut config, "");
    config
}

/// The same for the `process` object of an exec.
#[must_use]
pub fn process_for_guest(process: &Value) -> Value {
    for_guest(json!({ "process": process }))["process"].take()
}

/// The same for the `resources` object of an update.
#[must_use]
pub fn resources_for_guest(resources: &Value) -> Value {
    let mut config = for_guest(json!({ "linux": { "resources": resources } }));
    match config["linux"]["resources"].take() {
        Value::Null => json!({}),
        resources => resources,
    }
}

/// Takes out of `value` what isn't for the guest, and answers whether something
/// is left that is.
fn keep(value: &mut Value, path: &str) -> bool {
    if !has_rows_below(path) {
        return row_of(path).is_none_or(Field::is_for_guest);
    }
    match value {
        Value::Object(members) if members.is_empty() => has_guest_rows_below(path),
        Value::Object(members) => {
            members.retain(|name, member| keep(member, &join(path, name)));
            !members.is_empty()
        }
        Value::Array(items) if items.is_empty() => has_guest_rows_below(path),
        Value::Array(items) => {
            let path = format!("{path}[]");
            let keep_item = |any, item| keep(item, &path) || any;
            items.iter_mut().fold(false, keep_item)
        }
        _ => true,
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        return name.to_owned();
    }
    format!("{path}.{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(resources: &Value) -> Value {
        json!({"linux": {"namespaces": [{"type": "network"}], "resources": resources}})
    }

    #[test]
    fn a_refused_field_is_named_with_its_reason() {
        let err = check(&with(&json!({"rdma": {"mlx5_1": {"hcaHandles": 3}}}))).unwrap_err();
        assert_eq!(err.field, "linux.resources.rdma");
        assert!(!err.reason.is_empty());
        let err = check_process(&json!({"commandLine": "dir"})).unwrap_err();
        assert_eq!(err.field, "process.commandLine");
    }

    #[test]
    fn empty_fields_ask_for_nothing() {
        for value in [
            json!(null),
            json!([]),
            json!({}),
            json!(""),
            json!({"a": 0}),
        ] {
            assert_eq!(check(&with(&json!({"rdma": value}))), Ok(vec![]));
        }
    }

    #[test]
    fn an_ignored_field_is_told_and_an_unknown_one_is_not() {
        let config = with(&json!({"memory": {"kernel": 4096}, "flavour": "sweet"}));
        let ignored = check(&config).unwrap();
        assert_eq!(ignored.len(), 1);
        let line = ignored[0].to_string();
        assert!(line.starts_with("config.json: linux.resources.memory.kernel is ignored: "));
    }

    #[test]
    fn the_guest_gets_what_is_for_the_guest() {
        let config = json!({
            "ociVersion": "1.3.0",
            "hostname": "box",
            "hooks": {"poststop": [{"path": "/x"}]},
            "root": {"path": "/r"},
            "linux": {
                "namespaces": [{"type": "pid", "path": "/x"}],
                "resources": {"memory": {"kernel": 4096}, "pids": {"limit": 3}},
                "sysctl": {"net.core.somaxconn": "9"},
                "seccomp": {
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}],
                },
            },
        });
        let wanted = json!({
            "ociVersion": "1.3.0",
            "hostname": "box",
            "root": {"path": "/r"},
            "linux": {
                "namespaces": [{"type": "pid"}],
                "resources": {"pids": {"limit": 3}},
                "sysctl": {"net.core.somaxconn": "9"},
            },
        });
        assert_eq!(for_guest(config), wanted);
    }
}
