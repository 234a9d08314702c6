//! Waiting for the kernel to change a file of a cgroup.
//!
//! Owns an inotify instance. Does not read the file: callers create the watch, read, and
//! then wait.

use std::{io, path::Path};

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

use crate::stream::Stream;

/// A watch of one file.
#[derive(Debug)]
pub(crate) struct Watch(Stream);

impl Watch {
    /// Begins to watch `file`.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn new(file: &Path) -> io::Result<Self> {
        let inotify = init(CreateFlags::CLOEXEC)?;
        add_watch(&inotify, file, WatchFlags::MODIFY)?;
        Stream::new(inotify).map(Self)
    }

    /// Waits for a change since the last call.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        // What changed is known: only one file is watched.
        self.0.read(&mut Vec::with_capacity(EVENTS)).await.map(drop)
    }
}

/// Room for many events, which the kernel merges anyhow.
const EVENTS: usize = 4096;
