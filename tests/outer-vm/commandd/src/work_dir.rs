//! A private directory for the sockets and logs of one running machine. It lives
//! as long as its value; what a killed process left behind is removed by the
//! next one that makes a directory.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process;
use std::time::SystemTime;

const PREFIX: &str = "caisson-outer-vm.";
const LOCK: &str = "lock";

/// The directory; removed with everything in it on drop.
#[derive(Debug)]
pub(crate) struct WorkDir {
    path: PathBuf,
    /// Held as long as the directory is in use.
    _lock: File,
}

impl WorkDir {
    pub(crate) fn create() -> io::Result<Self> {
        let parent = std::env::temp_dir();
        remove_abandoned(&parent)?;
        let nanos = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |age| age.subsec_nanos());
        let name = format!("{}.{nanos}", process::id());
        // Prepared under a name that no one sweeps, as it is not locked yet.
        let hidden = parent.join(format!(".{PREFIX}{name}"));
        fs::DirBuilder::new().mode(0o700).create(&hidden)?;
        let lock = File::create(hidden.join(LOCK))?;
        lock.lock()?;
        let path = parent.join(format!("{PREFIX}{name}"));
        fs::rename(&hidden, &path)?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        // Nothing could be done about it; the next sweep tries again.
        fs::remove_dir_all(&self.path).ok();
    }
}

fn remove_abandoned(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let path = entry?.path();
        let ours = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        if ours && is_abandoned(&path) {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

/// Directories of other users, and those that vanish meanwhile, are not ours to remove.
fn is_abandoned(folder: &Path) -> bool {
    File::open(folder.join(LOCK))
        .is_ok_and(|lock| !matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}
