//! What a caller of a sandbox wants. Owns the type.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What a caller wants to run, and what it opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// Directories and files of the host that the command may write to.
    pub writable: Vec<PathBuf>,
    /// Those that it may read.
    pub readable: Vec<PathBuf>,
    /// Variables of its environment, `NAME=VALUE`.
    pub environment: Vec<String>,
    /// Its limit of memory, which counts what it writes outside of `writable`.
    pub memory_bytes: i64,
    /// Its limit of CPUs, in thousandths.
    pub millicpus: Option<u32>,
    /// Where its network namespace is, if it gets a network.
    pub network: Option<PathBuf>,
    /// The caller is root of a user namespace alone.
    pub in_user_namespace: bool,
    /// It has a terminal.
    pub terminal: bool,
    /// Where the caller is.
    pub working_directory: PathBuf,
    /// The caller's home directory.
    pub home: PathBuf,
}

impl Request {
    /// The home directory, unless it is the root: then there is nothing apart to hide.
    pub(super) fn own_home(&self) -> Option<&Path> {
        Some(self.home.as_path()).filter(|home| home.parent().is_some())
    }
}
