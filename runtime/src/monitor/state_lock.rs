//! The container's state directory, and the lock of it that whoever deletes the container waits
//! for.
//!
//! Owns the removal of it by an owner whose caller is gone. Somebody may have put the
//! container away meanwhile, and made another one of its name.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::monitor::CreateRequest;
use crate::monitor::error::Error;
use crate::process::step;

/// The container's state directory, as the creating process has locked it.
#[derive(Debug)]
pub(crate) struct StateDirectory {
    path: PathBuf,
    /// Open as it was when the container's name was taken, and locked as long.
    held: Option<File>,
}

impl StateDirectory {
    pub(crate) fn of(order: &CreateRequest, held: Option<OwnedFd>) -> Self {
        Self {
            path: order.root.join(&order.id),
            held: held.map(File::from),
        }
    }

    /// # Errors
    /// When it is another one's by now, or gone.
    pub(crate) fn assert_own(&self) -> Result<(), Error> {
        if self.is_own() {
            return Ok(());
        }
        let gone = io::Error::other("the container was deleted meanwhile");
        Err(step("find the container's directory")(gone).into())
    }

    /// Where it can't be removed, or isn't ours any more, it stays.
    pub(crate) fn remove(&self) {
        if self.is_own() {
            fs::remove_dir_all(&self.path).ok();
        }
    }

    fn is_own(&self) -> bool {
        let identity = |directory: Metadata| (directory.dev(), directory.ino());
        let held = self.held.as_ref().and_then(|held| held.metadata().ok());
        let named = fs::symlink_metadata(&self.path).ok();
        held.is_some() && held.map(identity) == named.map(identity)
    }
}
