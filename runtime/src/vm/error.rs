//! Why a VM did not come up.

use std::path::PathBuf;

/// What can go wrong until the guest's agent answers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A process of the host, or a step of its own work.
    #[error(transparent)]
    Process(#[from] crate::process::Error),
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
    /// A part of caisson is missing.
    #[error(transparent)]
    Installation(#[from] crate::config::installation::Error),
    /// No machine can be had.
    #[error(transparent)]
    Machine(#[from] crate::vm::hypervisor_error::Error),
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
}
