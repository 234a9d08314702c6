//! The namespaces of a container, with the id maps and the execution domain that go
//! with them: what an exec shares with the container's init.
//!
//! Owns no descriptor: the namespaces live as long as the init.

use nix::sched::CloneFlags;
use oci_spec::runtime::{LinuxPersonalityDomain, Spec};

use super::{id_map::IdMap, namespaces};
use crate::failure::Failure;

/// What all processes of one container share.
#[derive(Debug)]
pub(crate) struct ContainerNamespaces {
    /// `CLONE_NEW*` of the namespaces that are the container's.
    pub(crate) flags: CloneFlags,
    /// From its user ids to the guest's.
    pub(crate) uids: IdMap,
    /// From its group ids to the guest's.
    pub(crate) gids: IdMap,
    /// The execution domain.
    pub(crate) personality: Option<LinuxPersonalityDomain>,
}

impl ContainerNamespaces {
    /// Reads a container's configuration.
    ///
    /// # Errors
    /// [`Failure::Refused`] for namespaces that can't be given.
    pub(crate) fn of(spec: &Spec) -> Result<Self, Failure> {
        let flags = namespaces::wanted(spec)?;
        let linux = spec.linux().as_ref();
        // Without a user namespace of its own, each id is itself.
        let map = |mappings| {
            if flags.contains(CloneFlags::CLONE_NEWUSER) {
                return IdMap::of(mappings);
            }
            IdMap::parse("0 0 4294967295")
        };
        Ok(Self {
            flags,
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
        self.flags.contains(CloneFlags::CLONE_NEWUSER)
    }
}
