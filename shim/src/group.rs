//! Which containers share one shim, and one machine.
//!
//! Owns the reading of a bundle's annotations. The library (`caisson::config::annotations`) owns
//! which they are, and which containers may join which.

use std::path::Path;

use caisson::config::annotations::GROUPS;
use serde_json::Value;

/// The group of the container `id`, whose bundle is `bundle`; `id` itself without one.
pub(crate) fn of_bundle(bundle: &Path, id: &str) -> String {
    // A bundle that can't be read is refused when the container is created.
    let config = std::fs::read(bundle.join("config.json")).unwrap_or_default();
    let config = serde_json::from_slice(&config).unwrap_or(Value::Null);
    let named = of(|key| config["annotations"][key].as_str());
    named.unwrap_or(id).to_owned()
}

/// The group that annotations name.
pub(crate) fn of<'a>(annotation: impl Fn(&str) -> Option<&'a str>) -> Option<&'a str> {
    let named = GROUPS.iter().find_map(|key| annotation(key));
    named.filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_are_groups_and_any_other_container_is_alone() {
        let pod = json!({"io.kubernetes.cri.sandbox-id": "pod1"});
        assert_eq!(of(|key| pod[key].as_str()), Some("pod1"));
        let stray = json!({"io.kubernetes.cri.sandbox-id": "pod1", "dev.caisson.group": "pod2"});
        assert_eq!(of(|key| stray[key].as_str()), Some("pod1"));
        assert_eq!(of(|_| None), None);
        assert_eq!(of_bundle(Path::new("/nowhere"), "alone"), "alone");
    }
}
