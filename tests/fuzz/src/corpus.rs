//! The kept cases of one target: a directory of files, of which this writes only those
//! that begin with `crash-`.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

/// The directory of one target.
#[derive(Debug, Clone)]
pub struct Corpus {
    directory: PathBuf,
}

impl Corpus {
    /// The kept cases of the target called `name`, in the directory `corpora`.
    #[must_use]
    pub fn of(corpora: &Path, name: &str) -> Self {
        Self {
            directory: corpora.join(name),
        }
    }

    /// Every case, by file name; none if there is no such directory.
    pub(crate) fn cases(&self) -> io::Result<Vec<Vec<u8>>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
        let mut paths = paths?;
        paths.sort();
        paths.iter().map(fs::read).collect()
    }

    /// Keeps `case`, which made the target fail; returns where.
    pub(crate) fn keep(&self, case: &[u8]) -> io::Result<PathBuf> {
        fs::create_dir_all(&self.directory)?;
        let mut hasher = DefaultHasher::new();
        case.hash(&mut hasher);
        let path = self
            .directory
            .join(format!("crash-{:016x}", hasher.finish()));
        fs::write(&path, case)?;
        Ok(path)
    }
}
