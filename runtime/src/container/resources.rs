//! New limits for a container that exists.
//!
//! Owns what of OCI `linux.resources` can still be changed: a machine has the
//! memory it began with. Pure; the guest and the owner, who know the present limits,
//! apply.

use serde_json::Value;

use crate::oci::fields;
use crate::oci::plan::GUEST_OVERHEAD_MIB;

/// What can't be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A member that caisson never applies.
    #[error(transparent)]
    Refused(#[from] fields::Error),
    /// Not an object.
    #[error("resources: not an object of the runtime specification (linux.resources)")]
    NotAnObject,
    /// A limit that the machine can't make true.
    #[error(
        "memory limit {wanted} is more than the machine has for the container ({available} bytes): create it with a higher limit, which can be lowered later"
    )]
    Memory {
        /// Bytes asked for.
        wanted: u64,
        /// Bytes there are beside what the guest itself needs.
        available: u64,
    },
}

/// What the container's owner is asked, of what a caller wants for a container in a
/// machine of `mem_mib` MiB.
///
/// # Errors
/// The first member that can't be applied.
pub fn for_update(resources: &Value, mem_mib: u32) -> Result<Value, Error> {
    if !resources.is_object() {
        return Err(Error::NotAnObject);
    }
    fields::check_resources(resources)?;
    let available = u64::from(mem_mib.saturating_sub(GUEST_OVERHEAD_MIB)) << 20;
    match resources["memory"]["limit"].as_u64() {
        Some(wanted) if wanted > available => Err(Error::Memory { wanted, available }),
        _ => Ok(without_empty_pids(resources.clone())),
    }
}

/// For the guest no limit of tasks would look like a limit of none.
fn without_empty_pids(mut resources: Value) -> Value {
    let has_limit = resources["pids"]["limit"].is_number();
    if let Some(members) = resources.as_object_mut().filter(|_| !has_limit) {
        members.remove("pids");
    }
    resources
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_limit_beyond_the_machine_is_refused() {
        let limit = |bytes: i64| json!({"memory": {"limit": bytes}});
        for possible in [-1, 0, 1 << 20, 64 << 20] {
            for_update(&limit(possible), 128).unwrap();
        }
        let err = for_update(&limit((64 << 20) + 1), 128).unwrap_err();
        assert!(matches!(err, Error::Memory { available, .. } if available == 64 << 20));
    }

    #[test]
    fn what_is_never_applied_is_named() {
        let err = for_update(&json!({"rdma": {"mlx5": {"hcaHandles": 1}}}), 512).unwrap_err();
        assert!(err.to_string().contains("linux.resources.rdma"), "{err}");
        assert_eq!(for_update(&json!([]), 512), Err(Error::NotAnObject));
    }

    #[test]
    fn no_limit_of_tasks_is_not_a_limit_of_none() {
        let resources = json!({"pids": {"limit": 0}, "cpu": {"shares": 5}});
        assert_eq!(for_update(&resources, 512), Ok(resources));
        assert_eq!(for_update(&json!({"pids": {}}), 512), Ok(json!({})));
    }
}
