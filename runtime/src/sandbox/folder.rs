//! The container's folder, as it was when its owner began.
//!
//! Owns the removal of it by an owner whose caller is gone. Somebody may have put the
//! container away meanwhile, and made another one of its name.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Order;
use super::error::{Error, step};

/// See the module.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Folder {
    pub(super) fn of(order: &Order) -> Self {
        let path = order.root.join(&order.id);
        Self {
            identity: identity(&path),
            path,
        }
    }

    /// # Errors
    /// When it is another one's by now, or gone.
    pub(super) fn assert_own(&self) -> Result<(), Error> {
        if self.is_own() {
            return Ok(());
        }
        let gone = io::Error::other("the container was deleted meanwhile");
        Err(step("find the container's folder")(gone))
    }

    /// Where it can't be removed, or isn't ours any more, it stays.
    pub(super) fn remove(&self) {
        if self.is_own() {
            fs::remove_dir_all(&self.path).ok();
        }
    }

    fn is_own(&self) -> bool {
        self.identity.is_some() && self.identity == identity(&self.path)
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let folder = fs::metadata(path).ok()?;
    Some((folder.dev(), folder.ino()))
}
