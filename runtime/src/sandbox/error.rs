//! What can keep a sandbox from being prepared.

use std::io;
use std::path::PathBuf;

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A path that the caller opens can't be.
    #[error("{option} {}", path.display())]
    Open {
        /// `--rw` or `--ro`.
        option: &'static str,
        /// The path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// All of the host.
    #[error("{option} {}: the root of the host is shown in parts only; name a directory below it", path.display())]
    Root {
        /// `--rw` or `--ro`.
        option: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// config.json is text.
    #[error("{what} {path:?} is not UTF-8, which config.json has to be")]
    NotText {
        /// What it is.
        what: &'static str,
        /// As it was given.
        path: PathBuf,
    },
    /// A directory of the host whose private files are to be hidden has too many entries.
    #[error("{} has more than {max} files, among which private ones would have to be looked for", path.display())]
    TooMany {
        /// The directory.
        path: PathBuf,
        /// The bound.
        max: usize,
    },
    /// The program that makes a network is not there.
    #[error("--net: start slirp4netns; install it (Debian: slirp4netns)")]
    NoSlirp(#[source] io::Error),
    /// It has ended at once.
    #[error("--net: slirp4netns ended: {0}")]
    Slirp(String),
    /// A thread or its descriptors could not be had.
    #[error("--net: no thread for a network namespace")]
    NetworkThread,
    /// A step that the host refused.
    #[error("{step} {}", path.display())]
    Step {
        /// What was being done.
        step: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub(super) fn step<E: Into<io::Error>>(
        step: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |source| Self::Step {
            step,
            path,
            source: source.into(),
        }
    }
}
