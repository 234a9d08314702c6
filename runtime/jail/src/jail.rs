//! The order of confinement, top to bottom. The steps stand in their own files.

use std::os::fd::RawFd;

use rustix::fs::Mode;
use rustix::process::umask;

use crate::root::NewRoot;
use crate::{CapabilitySet, Error, Identities, descriptors, identities, privileges};

/// What a process keeps when it enters the jail; everything else is gone after
/// [`Jail::enter`].
///
/// Must be entered while the process has one thread: a user namespace cannot be
/// made by one thread of several. Works for root and, with
/// [`Identities::Own`] and [`Identities::Unique`], for any user that may make user namespaces.
#[derive(Debug, Clone)]
pub struct Jail<'a> {
    /// Numbers of the descriptors that stay open, beside 0, 1 and 2.
    pub descriptors: &'a [RawFd],
    /// Which users and groups exist inside.
    pub identities: Identities,
    /// Capabilities kept inside the own user namespace. In every other
    /// namespace, the initial one above all, the process has none.
    pub capabilities: CapabilitySet,
    /// Most descriptors the process may have open; lowered to the hard limit
    /// where that cannot be raised.
    pub open_files: u64,
}

impl Jail<'_> {
    /// Confines this process to an empty, read-only root.
    ///
    /// # Errors
    /// The step that was refused. The process is then in an unknown mixture of
    /// inside and outside and must exit.
    pub fn enter(self) -> Result<(), Error> {
        self.enter_furnished(|_| Ok(()))
    }

    /// As [`Jail::enter`], with a root that `furnish` fills. It is called in the
    /// new namespaces, with the old root still reachable, and its result is
    /// passed on.
    ///
    /// # Errors
    /// As [`Jail::enter`].
    pub fn enter_furnished<T, E: From<Error>>(
        self,
        furnish: impl FnOnce(&NewRoot) -> Result<T, E>,
    ) -> Result<T, E> {
        privileges::require_one_thread()?;
        // The caller's takes no bit from what is made here, each with its mode.
        umask(Mode::empty());
        descriptors::keep_only(self.descriptors)?;
        privileges::clear_environment()?;
        // While outside: a hard limit can only be raised from there.
        privileges::set_limits(self.open_files)?;
        identities::enter_namespaces(self.identities)?;
        let root = NewRoot::new()?;
        let furnished = furnish(&root)?;
        root.pivot()?;
        privileges::drop_all_but(self.capabilities)?;
        Ok(furnished)
    }
}
