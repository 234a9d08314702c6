//! What can go wrong with a cgroup of the host.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::cgroup::systemd;

/// What can go wrong with a cgroup.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host's hierarchies can't be read.
    #[error("read the host's cgroups")]
    Find(#[source] io::Error),
    /// config.json names a cgroup, and there are none.
    #[error("linux.cgroupsPath: no cgroup file system is mounted")]
    Unmounted,
    /// A directory, or a file in it, can't be made, written or removed.
    #[error("{action} cgroup {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// With which directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// systemd can't make it.
    #[error(transparent)]
    Systemd(Box<systemd::Error>),
    /// Someone else lives there. The text is runc's.
    #[error("container's cgroup is not empty: {count} process(es) found")]
    Occupied {
        /// How many.
        count: usize,
    },
    /// Whoever joins it would stand still. The text is runc's.
    #[error("container's cgroup unexpectedly frozen: {}", .0.display())]
    Frozen(PathBuf),
    /// A limit that nobody else would keep.
    #[error("set {file} of cgroup {} to {value:?}", path.display())]
    Set {
        /// The file.
        file: &'static str,
        /// What should have been written.
        value: String,
        /// The cgroup.
        path: PathBuf,
        /// Why it could not be.
        #[source]
        source: io::Error,
    },
}

impl From<systemd::Error> for Error {
    fn from(err: systemd::Error) -> Self {
        Self::Systemd(Box::new(err))
    }
}

impl Error {
    /// Whether this is a host that gives this user no cgroup. One that gives
    /// root none, as in a container, has them mounted read-only.
    pub(super) fn is_lack_of_permission(&self, rootless: bool) -> bool {
        let Self::Io { source, .. } = self else {
            return false;
        };
        match source.kind() {
            ErrorKind::ReadOnlyFilesystem => true,
            ErrorKind::PermissionDenied => rootless,
            _ => false,
        }
    }
}

/// Names what was being done with which directory.
pub(super) fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
