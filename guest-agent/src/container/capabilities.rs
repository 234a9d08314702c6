//! Capability sets of a process.
//!
//! Owns the order in which they are given up: the bounding set while still
//! privileged, the rest after the user has changed.

use caps::{CapSet, Capability, CapsHashSet};
use oci_spec::runtime::{Capabilities, LinuxCapabilities};

use crate::failure::Failure;

/// The five sets in the crate's own terms. A process without `capabilities` has
/// none, as with runc.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CapabilitySets {
    bounding: CapsHashSet,
    effective: CapsHashSet,
    inheritable: CapsHashSet,
    permitted: CapsHashSet,
    ambient: CapsHashSet,
}

impl CapabilitySets {
    /// Converts the configured sets; capabilities that this kernel lacks, and
    /// ambient ones that it wouldn't raise, are left out, as the runtime
    /// specification requires: they can't be granted.
    #[must_use]
    pub(crate) fn new(configured: Option<&LinuxCapabilities>, supported: &CapsHashSet) -> Self {
        let Some(sets) = configured else {
            return Self::default();
        };
        let convert = |set: &Option<Capabilities>| convert(set.as_ref(), supported);
        let (permitted, inheritable) = (convert(sets.permitted()), convert(sets.inheritable()));
        let mut ambient = convert(sets.ambient());
        ambient.retain(|capability| {
            permitted.contains(capability) && inheritable.contains(capability)
        });
        Self {
            bounding: convert(sets.bounding()),
            effective: convert(sets.effective()),
            inheritable,
            permitted,
            ambient,
        }
    }

    /// Drops everything outside the bounding set.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) fn apply_bounding(&self, supported: &CapsHashSet) -> Result<(), Failure> {
        for &capability in supported.difference(&self.bounding) {
            caps::drop(None, CapSet::Bounding, capability).map_err(|error| refused(&error))?;
        }
        Ok(())
    }

    /// Sets the other sets, in an order in which the kernel allows each: the effective and
    /// the inheritable set before the permitted one, the ambient set last.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) fn apply(&self) -> Result<(), Failure> {
        for (kind, set) in [
            (CapSet::Effective, &self.effective),
            (CapSet::Inheritable, &self.inheritable),
            (CapSet::Permitted, &self.permitted),
            (CapSet::Ambient, &self.ambient),
        ] {
            caps::set(None, kind, set).map_err(|error| refused(&error))?;
        }
        Ok(())
    }
}

/// The capabilities that this kernel has.
#[must_use]
pub(crate) fn supported() -> CapsHashSet {
    caps::runtime::thread_all_supported()
}

fn convert(set: Option<&Capabilities>, supported: &CapsHashSet) -> CapsHashSet {
    set.into_iter()
        .flatten()
        .filter_map(|capability| format!("CAP_{capability}").parse::<Capability>().ok())
        .filter(|capability| supported.contains(capability))
        .collect()
}

fn refused(error: &caps::errors::CapsError) -> Failure {
    Failure::Refused(format!("set capabilities: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_specification_is_known() {
        let every = caps::all();
        let names: Vec<String> = every.iter().map(ToString::to_string).collect();
        let json = format!(r#"{{"bounding":{names:?},"effective":["CAP_CHOWN"]}}"#);
        let configured: LinuxCapabilities = serde_json::from_str(&json).unwrap();
        let sets = CapabilitySets::new(Some(&configured), &every);
        assert_eq!(sets.bounding, every);
        assert_eq!(sets.effective, [Capability::CAP_CHOWN].into());
        assert!(sets.ambient.is_empty());
        let json = r#"{"permitted":["CAP_KILL","CAP_CHOWN"],"inheritable":["CAP_CHOWN"],
                       "ambient":["CAP_KILL","CAP_CHOWN"]}"#;
        let configured: LinuxCapabilities = serde_json::from_str(json).unwrap();
        let sets = CapabilitySets::new(Some(&configured), &every);
        assert_eq!(sets.ambient, [Capability::CAP_CHOWN].into());
    }

    #[test]
    fn what_the_kernel_lacks_is_left_out_and_nothing_means_none() {
        let configured: LinuxCapabilities =
            serde_json::from_str(r#"{"permitted":["CAP_BPF","CAP_KILL"]}"#).unwrap();
        let old_kernel = [Capability::CAP_KILL].into();
        let sets = CapabilitySets::new(Some(&configured), &old_kernel);
        assert_eq!(sets.permitted, old_kernel);
        assert_eq!(
            CapabilitySets::new(None, &old_kernel),
            CapabilitySets::default()
        );
    }
}
