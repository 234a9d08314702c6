//! Why a sandbox did not come up, or ended other than by its container's exit.

use std::io;
use std::path::PathBuf;

/// What can go wrong between the order and the container's exit.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A step of the host's own work failed.
    #[error("{0}")]
    Step(&'static str, #[source] io::Error),
    /// The container's network namespace can't be used.
    #[error("network namespace {}", path.display())]
    Network {
        /// The file that stands for it.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The container's network namespace is the caller's own.
    #[error(
        "network namespace {} is the host's, whose interfaces a machine would take away: give the container a network namespace of its own and publish its ports", .0.display()
    )]
    HostNetwork(PathBuf),
    /// The command that should do something for the owner has hung up.
    #[error("the command that creates the container has given up")]
    Errand(#[source] crate::owner::Error),
    /// A hook failed.
    #[error(transparent)]
    Hook(#[from] crate::hooks::Error),
    /// The container's cgroup on the host.
    #[error(transparent)]
    Cgroup(#[from] crate::cgroup::Error),
    /// A host path can't be shared with the guest.
    #[error("share {}", path.display())]
    Share {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A read-only root file system lacks a mount point that can't be made.
    #[error("create mount point {}", path.display())]
    MountPoint {
        /// Path in the container.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A helper process could not be started.
    #[error("start {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A part of caisson is missing.
    #[error(transparent)]
    Installation(#[from] crate::installation::Error),
    /// No machine can be had.
    #[error(transparent)]
    Machine(#[from] crate::machine::Error),
    /// The machine ended before its agent answered.
    #[error("the machine ended before its agent was ready: {cause}")]
    Boot {
        /// Who ended and why, with its last words.
        cause: String,
    },
    /// The agent did not answer in time.
    #[error("the guest's agent was not ready within {limit_s} s{last_words}")]
    BootTimeout {
        /// The limit in seconds.
        limit_s: u64,
        /// The last lines of the guest's console.
        last_words: String,
    },
    /// A signal, or the caller's death, came before the agent.
    #[error("interrupted while the machine was starting")]
    GivenUp,
    /// The agent refused or failed.
    #[error("{0}")]
    Agent(String),
    /// The machine of the group can't be joined.
    #[error("join the group's machine: {0}")]
    Join(String),
    /// The state folder can't be written.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    /// The terminal can't be handed to the caller.
    #[error("console socket {}", path.display())]
    ConsoleSocket {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Names the step that an I/O error belongs to.
pub(crate) fn step(name: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Step(name, source)
}
