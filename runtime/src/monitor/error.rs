//! Why a container was not created in its VM.

use std::io;
use std::path::PathBuf;

/// What can go wrong between the request and the created container.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A process of the host, or a step of its own work.
    #[error(transparent)]
    Process(#[from] crate::process::Error),
    /// The VM did not come up.
    #[error(transparent)]
    Vm(#[from] crate::vm::Error),
    /// The agent refused or failed.
    #[error("{0}")]
    Agent(String),
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
    CreatorRequest(#[source] crate::owner::Error),
    /// A hook failed.
    #[error(transparent)]
    Hook(#[from] crate::hooks::Error),
    /// A read-only root file system lacks a mount point that can't be made.
    #[error("create mount point {}", path.display())]
    MountPoint {
        /// Path in the container.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The machine of the group can't be joined.
    #[error("join the group's machine: {0}")]
    Join(String),
    /// The state directory can't be written.
    #[error(transparent)]
    Store(#[from] crate::container::store::Error),
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
