//! Where a container's cgroup shall be: `linux.cgroupsPath`, read as runc reads it.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cgroup::property;
use crate::cgroup::property::Property;

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// This program, as directories.
    #[default]
    Cgroupfs,
    /// systemd, as scopes; paths have the form `slice:prefix:name`.
    Systemd,
    /// Nobody: the container stays in its caller's cgroup.
    Disabled,
}

/// Where the cgroup shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// In the caller's own.
    Inherited,
    /// A directory.
    Directory {
        /// Absolute: below each hierarchy's root. Relative: from the caller's own
        /// cgroup (version 1) or from the one above it (version 2).
        path: PathBuf,
        /// config.json names it; else it may be done without.
        wanted: bool,
    },
    /// A scope of systemd.
    Scope {
        /// Unit that it is below; none for the default one.
        slice: Option<String>,
        /// Name of the scope's unit.
        unit: String,
        /// What annotations ask for it.
        properties: Vec<Property>,
    },
}

/// A path that can't be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The text is runc's.
    #[error(
        "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {0:?} instead"
    )]
    Systemd(String),
    /// Limits can't be set on the root.
    #[error("linux.cgroupsPath {0:?} is the root cgroup; name one of its own")]
    Root(String),
    /// A slice holds units, and no processes.
    #[error(
        "linux.cgroupsPath {0:?} names a slice; a container needs a scope, so end it in another name"
    )]
    Slice(String),
    /// An annotation for systemd.
    #[error(transparent)]
    Property(#[from] property::Malformed),
}

impl Place {
    /// Decides for the container `id`, whose `linux.cgroupsPath` is `request`; of its
    /// annotations, those for systemd count with its driver alone.
    ///
    /// # Errors
    /// When the path doesn't fit the driver, or an annotation is no property.
    pub fn of(
        id: &str,
        request: Option<&str>,
        driver: Driver,
        annotations: &HashMap<String, String>,
    ) -> Result<Self, Malformed> {
        let request = request.filter(|request| !request.is_empty());
        match (driver, request) {
            (Driver::Disabled, _) => Ok(Self::Inherited),
            (Driver::Cgroupfs, None) => Ok(Self::Directory {
                path: id.into(),
                wanted: false,
            }),
            (Driver::Cgroupfs, Some(request)) => {
                let path = cleaned(Path::new(request));
                if path.file_name().is_none() {
                    return Err(Malformed::Root(request.to_owned()));
                }
                Ok(Self::Directory { path, wanted: true })
            }
            (Driver::Systemd, request) => {
                let (slice, unit) = match request {
                    None => (None, format!("caisson-{id}.scope")),
                    Some(request) => scope(request)?,
                };
                Ok(Self::Scope {
                    slice,
                    unit,
                    properties: property::of_annotations(annotations)?,
                })
            }
        }
    }
}

/// Slice and unit of `slice:prefix:name`.
fn scope(request: &str) -> Result<(Option<String>, String), Malformed> {
    let malformed = || Malformed::Systemd(request.to_owned());
    let parts: Vec<&str> = request.split(':').collect();
    let [slice, prefix, name] = parts[..] else {
        return Err(malformed());
    };
    if name.is_empty() || request.contains('/') {
        return Err(malformed());
    }
    if name.ends_with(".slice") {
        return Err(Malformed::Slice(request.to_owned()));
    }
    let unit = match (prefix, name) {
        ("", name) => format!("{name}.scope"),
        (prefix, name) => format!("{prefix}-{name}.scope"),
    };
    let slice = Some(slice.to_owned()).filter(|slice| !slice.is_empty());
    Ok((slice, unit))
}

/// Without `.` and `..`, and never above where it begins.
fn cleaned(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::RootDir => clean.push("/"),
            Component::Normal(name) => clean.push(name),
            Component::ParentDir if clean.file_name().is_some() => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(request: Option<&str>, driver: Driver) -> Result<Place, Malformed> {
        Place::of("web1", request, driver, &HashMap::new())
    }

    fn directory(request: Option<&str>) -> (PathBuf, bool) {
        match of(request, Driver::Cgroupfs).unwrap() {
            Place::Directory { path, wanted } => (path, wanted),
            other => panic!("{other:?}"),
        }
    }

    fn unit(request: Option<&str>) -> (Option<String>, String) {
        match of(request, Driver::Systemd).unwrap() {
            Place::Scope { slice, unit, .. } => (slice, unit),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_path_is_taken_as_written_and_the_name_is_the_default() {
        assert_eq!(directory(None), ("web1".into(), false));
        assert_eq!(directory(Some("")), ("web1".into(), false));
        assert_eq!(directory(Some("/pods/a")), ("/pods/a".into(), true));
        assert_eq!(directory(Some("a/./b/../c")), ("a/c".into(), true));
        assert_eq!(directory(Some("../../etc")), ("etc".into(), true));
        assert_eq!(directory(Some("/../x")), ("/x".into(), true));
        for root in ["/", "/..", ".."] {
            of(Some(root), Driver::Cgroupfs).unwrap_err();
        }
    }

    #[test]
    fn three_parts_make_a_scope() {
        assert_eq!(unit(None), (None, "caisson-web1.scope".into()));
        let slice = Some("user.slice".to_owned());
        assert_eq!(
            unit(Some("user.slice:libpod:1a")),
            (slice, "libpod-1a.scope".into())
        );
        assert_eq!(unit(Some("::1a")), (None, "1a.scope".into()));
        for wrong in ["/a/b", "a:b", "a:b:c:d", "a:b:", "a:b:../c", "::x.slice"] {
            of(Some(wrong), Driver::Systemd).unwrap_err();
        }
        let annotations = HashMap::from([("org.systemd.property.x".into(), "1".into())]);
        let of = |driver| Place::of("web1", None, driver, &annotations);
        of(Driver::Systemd).unwrap_err();
        of(Driver::Cgroupfs).unwrap();
    }

    #[test]
    fn a_disabled_driver_moves_nobody() {
        assert_eq!(of(Some("/a"), Driver::Disabled), Ok(Place::Inherited));
    }
}
