//! What one server serves, and where: the same for all of its containers.

use std::path::PathBuf;

/// What a server is told at its start.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The library's state folder.
    pub(crate) root: PathBuf,
    /// Namespace of containerd.
    pub(crate) namespace: String,
    /// Tell decisions.
    pub(crate) debug: bool,
}
