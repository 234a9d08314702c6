//! Holds a VM and its helpers to their limits on the host, from boot on and live.
//!
//! Owns what the limits are now: an update names only what it changes, and some of
//! the host's files need more than that.

use std::sync::{Mutex, PoisonError};

use oci_spec::runtime::LinuxResources;
use serde_json::Value;

use crate::cgroup;
use crate::cgroup::{Allowance, Group};
use crate::log::Log;
use crate::vm::error::Error;

/// The limits of one VM; none where it has no cgroup of its own.
pub(crate) struct Limits {
    group: Option<Group>,
    allowance: Allowance,
    resources: Mutex<LinuxResources>,
}

impl Limits {
    /// Limits of the processes in `group`; nothing is set yet.
    pub(crate) fn new(
        group: Option<Group>,
        allowance: Allowance,
        resources: LinuxResources,
    ) -> Self {
        Self {
            group,
            allowance,
            resources: Mutex::new(resources),
        }
    }

    /// All but the CPU quota, which would make the boot slow.
    pub(crate) fn set(&self, log: &Log) -> Result<(), Error> {
        let Some(group) = &self.group else {
            return Ok(());
        };
        let resources = self.present();
        let settings = cgroup::settings(&resources, self.allowance, group.files());
        group.limit_required(&settings)?;
        log_unset(&group.limit_best_effort(&settings), log);
        Ok(())
    }

    /// The CPU quota, once the container's own time begins.
    pub(crate) fn hold_to_quota(&self, log: &Log) {
        if let Some(group) = &self.group {
            let settings = cgroup::quota(&self.present(), group.version);
            log_unset(&group.limit_best_effort(&settings), log);
        }
    }

    /// Changes limits; what `changes` (OCI `linux.resources`) lacks stays. First come
    /// those that only the host can keep, then the guest's, by `change_guest`, then
    /// the host's wider ones, which can't be refused: so a refusal changes nothing.
    ///
    /// # Errors
    /// When a limit that only the host can keep can't be set; what the guest says.
    pub(crate) fn change<E: From<String>>(
        &self,
        changes: &Value,
        change_guest: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let is_named = |pointer: &&str| changes.pointer(pointer).is_some();
        if self.group.is_none() && HOST_ONLY.iter().any(is_named) {
            return Err(NO_CGROUP.to_owned().into());
        }
        // Held to the end: updates come one after the other.
        let mut present = self
            .resources
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let text = |err: serde_json::Error| E::from(format!("resources: {err}"));
        let mut merged = serde_json::to_value(&*present).map_err(text)?;
        merge(&mut merged, changes);
        let resources: LinuxResources = serde_json::from_value(merged).map_err(text)?;
        if let Some(group) = &self.group {
            let settings = cgroup::settings(&resources, self.allowance, group.files());
            let undo = group.limit_required(&settings);
            let undo = undo.map_err(|err| E::from(crate::log::error_line::chain(&err)))?;
            if let Err(refusal) = change_guest() {
                group.take_back(&undo);
                return Err(refusal);
            }
            group.limit_best_effort(&settings);
            group.limit_best_effort(&cgroup::quota(&resources, group.version));
        } else {
            change_guest()?;
        }
        *present = resources;
        Ok(())
    }

    fn present(&self) -> LinuxResources {
        let resources = self.resources.lock();
        resources.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

const NO_CGROUP: &str =
    "the container has no cgroup on the host, which alone can limit processors and block I/O";
/// What the guest can't limit.
const HOST_ONLY: [&str; 3] = ["/cpu/cpus", "/cpu/mems", "/blockIO"];

fn log_unset(unset: &[String], log: &Log) {
    for line in unset {
        log.debug(&format!("the guest alone keeps a limit: {line}"));
    }
}

/// Members of objects one by one; anything else, and lists, as a whole.
fn merge(into: &mut Value, changes: &Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (name, change) in changes.iter().filter(|(_, change)| !change.is_null()) {
                merge(into.entry(name).or_insert(Value::Null), change);
            }
        }
        (into, change) => into.clone_from(change),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_leaves_alone_what_it_does_not_name() {
        let mut limits = json!({"cpu": {"quota": 5, "period": 10}, "pids": {"limit": 3}});
        merge(&mut limits, &json!({"cpu": {"quota": 7, "shares": null}}));
        let expected = json!({"cpu": {"quota": 7, "period": 10}, "pids": {"limit": 3}});
        assert_eq!(limits, expected);
    }
}
