//! What one server serves, and where: the same for all of its containers.

use std::path::PathBuf;

/// The settings that a server is started with.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The library's state directory.
    pub(crate) root: PathBuf,
    /// Namespace of containerd.
    pub(crate) namespace: String,
    /// Enable debug logging.
    pub(crate) debug: bool,
}
