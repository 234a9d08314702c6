//! The spec of a file server: JSON on descriptor 3. Owns the format
//! and its checks, opens nothing.

use std::collections::BTreeSet;
use std::os::fd::RawFd;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The work of one file server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FsSpec {
    /// Number of the listening socket of [`crate::socket::pair`]. One front end
    /// is accepted; the server ends when that one disconnects.
    pub socket_fd: RawFd,
    /// What is served, in the order of attaching: a share inside another comes
    /// after it.
    pub shares: Vec<Share>,
    /// What the guest may remember.
    #[serde(default)]
    pub cache: Cache,
    /// How many names and open files the guest may hold; each is a descriptor of the
    /// server. A lower limit of open files lowers it.
    #[serde(default = "default_max_names")]
    pub max_names: u64,
}

/// Names and open files of a guest whose owner does not name them.
pub const DEFAULT_NAMES: u64 = 65_536;

const fn default_max_names() -> u64 {
    DEFAULT_NAMES
}

/// One detached mount and its place in the served tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Number of the descriptor of the detached mount.
    pub fd: RawFd,
    /// Where the guest finds it: relative to the root of the tag, without `.`
    /// and `..`.
    pub path: PathBuf,
    /// A directory, or one file.
    pub is_dir: bool,
    /// Promised to be read-only; the server refuses a mount that isn't.
    pub read_only: bool,
}

/// What the guest may remember of the served files, and for how long. The
/// default sees changes by the host within a second, and file contents at each
/// open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// Names and attributes for a second, contents until attributes tell of a change.
    #[default]
    Auto,
    /// Everything for a day: only for trees that nobody else changes.
    Always,
    /// Nothing.
    Never,
}

/// Why a spec is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no JSON, or has other fields.
    #[error("malformed spec")]
    Malformed(#[from] serde_json::Error),
    /// A share's path is empty, absolute, or has `.` or `..` in it.
    #[error("share path {} is no plain relative path", .0.display())]
    Path(PathBuf),
    /// Two shares have the same path.
    #[error("two shares at {}", .0.display())]
    DuplicatePath(PathBuf),
    /// A descriptor is named twice, or is one of the standard streams or the
    /// spec itself.
    #[error("descriptor {0} is not free for a share or the socket")]
    Descriptor(RawFd),
}

impl FsSpec {
    /// The descriptor that a server reads its spec from.
    pub const FD: RawFd = 3;

    /// Parses and checks a spec.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let spec: Self = serde_json::from_slice(json)?;
        spec.check()?;
        Ok(spec)
    }

    /// Numbers of all descriptors that the spec names.
    #[must_use]
    pub fn descriptors(&self) -> Vec<RawFd> {
        std::iter::once(self.socket_fd)
            .chain(self.shares.iter().map(|share| share.fd))
            .collect()
    }

    fn check(&self) -> Result<(), Error> {
        let mut numbers = BTreeSet::new();
        for fd in self.descriptors() {
            if fd <= Self::FD || !numbers.insert(fd) {
                return Err(Error::Descriptor(fd));
            }
        }
        let mut paths = BTreeSet::new();
        for Share { path, .. } in &self.shares {
            if !is_plain_relative(path) {
                return Err(Error::Path(path.clone()));
            }
            if !paths.insert(path) {
                return Err(Error::DuplicatePath(path.clone()));
            }
        }
        Ok(())
    }
}

fn is_plain_relative(path: &Path) -> bool {
    path.components().next().is_some()
        && path
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::{Cache, Error, FsSpec};

    fn share(fd: i32, path: &str) -> String {
        format!(r#"{{"fd":{fd},"path":"{path}","is_dir":true,"read_only":false}}"#)
    }

    fn parse(shares: &[String]) -> Result<FsSpec, Error> {
        let json = format!(r#"{{"socket_fd":4,"shares":[{}]}}"#, shares.join(","));
        FsSpec::parse(json.as_bytes())
    }

    #[test]
    fn a_spec_without_a_cache_mode_means_auto() {
        let spec = parse(&[share(5, "web1/rootfs"), share(6, "web1/mounts/0")]).unwrap();
        assert_eq!(spec.cache, Cache::Auto);
        assert_eq!(spec.descriptors(), [4, 5, 6]);
    }

    #[test]
    fn cache_modes_have_the_names_of_virtiofsd() {
        let spec = FsSpec::parse(br#"{"socket_fd":4,"shares":[],"cache":"never"}"#).unwrap();
        assert_eq!(spec.cache, Cache::Never);
    }

    #[test]
    fn paths_that_leave_the_tree_are_refused() {
        for path in ["", "/etc", "../etc", "web1/../../etc", "."] {
            assert!(
                matches!(parse(&[share(5, path)]), Err(Error::Path(_))),
                "{path:?}"
            );
        }
    }

    #[test]
    fn one_path_cannot_be_shared_twice() {
        let result = parse(&[share(5, "a"), share(6, "a")]);
        assert!(matches!(result, Err(Error::DuplicatePath(_))));
    }

    #[test]
    fn descriptors_are_distinct_and_not_the_standard_ones() {
        for fd in [4, 3, 0, -1] {
            assert!(
                matches!(parse(&[share(fd, "a")]), Err(Error::Descriptor(_))),
                "{fd}"
            );
        }
    }

    #[test]
    fn unknown_fields_are_refused() {
        let json = br#"{"socket_fd":4,"shares":[],"writeback":true}"#;
        assert!(matches!(FsSpec::parse(json), Err(Error::Malformed(_))));
    }
}
