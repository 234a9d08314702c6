//! What of the host the guest sees.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::oci::plan::access_times::AccessTimes;

/// One directory or file of the host that the guest sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Absolute path on the host; of an overlay, its first lower directory.
    pub source: PathBuf,
    /// The directories that are laid over each other to be the source.
    pub overlay: Option<Overlay>,
    /// Path below the share's root.
    pub target: PathBuf,
    /// Whether the file server refuses writes.
    pub access: Access,
    /// Mounts below the source are seen too.
    pub recursive: bool,
    /// Under which ids its files are seen; none: their own.
    pub id_maps: Option<IdMaps>,
    /// When reading changes access times.
    pub access_times: AccessTimes,
}

/// Whether a share may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Where its mounts on the host may be.
    AsMounted,
    /// Only in the mounts below it.
    ReadOnlyItself,
    /// Nowhere.
    ReadOnly,
}

/// Under which ids a share's files are seen, other than their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    /// For users, as the kernel reads them: on the disk, as seen, how many.
    pub uids: String,
    /// For groups.
    pub gids: String,
    /// For mounts below the source too.
    pub recursive: bool,
}

/// Directories of the host, one laid over the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// From above to below.
    pub lower: Vec<PathBuf>,
    /// Where changes go; read-only without.
    pub upper: Option<Upper>,
    /// Further options of the file system.
    pub parameters: Vec<String>,
}

/// Takes the changes of an overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upper {
    /// The changed files.
    pub changes: PathBuf,
    /// Where they are prepared, on the same file system.
    pub work: PathBuf,
}
