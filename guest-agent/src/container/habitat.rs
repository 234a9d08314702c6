//! What all processes of one container have in common, also those that come
//! long after its configuration was read.
//!
//! Owns no descriptor: the namespaces live as long as the container's init.

use nix::sched::CloneFlags;
use oci_spec::runtime::{LinuxPersonalityDomain, Spec};

use super::{id_map::IdMap, namespaces};
use crate::failure::Failure;

/// See the module.
#[derive(Debug)]
pub(crate) struct Habitat {
    /// The namespaces that the container has of its own.
    pub(crate) namespaces: CloneFlags,
    /// What its users are called in the guest.
    pub(crate) uids: IdMap,
    /// What its groups are called in the guest.
    pub(crate) gids: IdMap,
    /// The execution domain.
    pub(crate) personality: Option<LinuxPersonalityDomain>,
}

impl Habitat {
    /// Reads a container's configuration.
    ///
    /// # Errors
    /// [`Failure::Refused`] for namespaces that can't be given.
    pub(crate) fn of(spec: &Spec) -> Result<Self, Failure> {
        let namespaces = namespaces::wanted(spec)?;
        let linux = spec.linux().as_ref();
        // Without a user namespace of its own, each id is itself.
        let map = |mappings| {
            if namespaces.contains(CloneFlags::CLONE_NEWUSER) {
                return IdMap::of(mappings);
            }
            IdMap::parse("0 0 4294967295")
        };
        Ok(Self {
            namespaces,
            uids: map(linux.and_then(|linux| linux.uid_mappings().as_ref())),
            gids: map(linux.and_then(|linux| linux.gid_mappings().as_ref())),
            personality: linux
                .and_then(|linux| linux.personality().as_ref())
                .map(oci_spec::runtime::LinuxPersonality::domain),
        })
    }

    /// Whether ids in the container are others than in the guest.
    #[must_use]
    pub(crate) const fn has_own_users(&self) -> bool {
        self.namespaces.contains(CloneFlags::CLONE_NEWUSER)
    }
}
