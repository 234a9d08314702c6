//! The start of a process that a command leaves behind: it is put into the container's
//! cgroup, gets its request, and reports that it goes on.
//!
//! Owns the way back: where a step fails, nothing is left behind.

use std::io;
use std::os::fd::RawFd;

use serde::Serialize;

use crate::cgroup;
use crate::cgroup::Group;
use crate::monitor::Outcome;
use crate::owner;
use crate::owner::{Connection, OwnerChild, SpawnOptions};
use crate::process;

/// Why none was left behind.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started.
    #[error("start {0}")]
    Spawn(&'static str, #[source] io::Error),
    /// It can't be where the container's processes are.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// A conversation broke.
    #[error(transparent)]
    Owner(#[from] owner::Error),
    /// The guest, the container's owner or the process itself can't have it.
    #[error("{0}")]
    Refused(String),
}

/// Why one that was started could not go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The conversation with the process that started it broke.
    #[error(transparent)]
    Owner(#[from] owner::Error),
    /// A step of its own failed.
    #[error(transparent)]
    Step(#[from] process::Error),
}

/// Which process, and where it lives.
pub(crate) struct Start<'a> {
    /// The hidden verb that it is started with.
    pub(crate) verb: &'static str,
    /// What an error calls it.
    pub(crate) name: &'static str,
    pub(crate) around: &'a SpawnOptions,
    pub(crate) group: Option<&'a Group>,
}

impl Start<'_> {
    /// Starts it with `request` and the descriptors of these numbers; `title` is what
    /// users of ps see. Returns once it has reported.
    pub(crate) fn leave<'t>(
        self,
        title: impl IntoIterator<Item = &'t str>,
        request: &impl Serialize,
        numbers: &[RawFd],
    ) -> Result<OwnerChild, Error> {
        let spawned = OwnerChild::spawn(self.verb, title, self.around);
        let (child, near) = spawned.map_err(|source| Error::Spawn(self.name, source))?;
        let begun = self.begin(child.pid(), &near, request, numbers);
        drop(near);
        match begun {
            Ok(()) => Ok(child),
            Err(err) => {
                child.end();
                Err(err)
            }
        }
    }

    fn begin(
        &self,
        pid: i32,
        child: &Connection,
        request: &impl Serialize,
        numbers: &[RawFd],
    ) -> Result<(), Error> {
        self.group
            .map_or(Ok(()), |group| group.admit_if_possible(pid))?;
        child.send(request, numbers)?;
        match child.receive::<Outcome>()? {
            (Outcome::Created, _) => Ok(()),
            (Outcome::Failed { message }, _) => Err(Error::Refused(message)),
        }
    }
}
