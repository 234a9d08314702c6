//! `Bundle`: an OCI bundle's config.json, read and checked once.
//!
//! Owns the reading and the checks that need no knowledge of machines. After
//! it, no one reads config.json again.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use crate::oci::capabilities;
use crate::oci::normalize::normalize_process;

/// What can be wrong with a bundle. The texts follow runc's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No config.json.
    #[error("JSON specification file {} not found", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// config.json can't be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// config.json is not JSON, or not of the specification's form.
    #[error("parse {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// config.json is JSON, but no object.
    #[error("parse {}: it is no object, as the specification has it", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// Written for a version of the specification that we don't know.
    #[error("ociVersion {found:?} is not supported: caisson knows 1.0 to 1.3")]
    Version {
        /// What the file says.
        found: String,
    },
    /// A member without which nothing can run.
    #[error("config.json has no {field}")]
    Field {
        /// Name of the member.
        field: &'static str,
    },
    /// The root file system is not there.
    #[error("rootfs {}", path.display())]
    Rootfs {
        /// Resolved path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The root file system is not a directory.
    #[error("rootfs {}: not a directory", path.display())]
    RootfsKind {
        /// Resolved path.
        path: PathBuf,
    },
}

/// A bundle whose config.json was read and checked.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// Absolute path of the bundle's directory.
    pub path: PathBuf,
    /// Absolute path of the root file system.
    pub rootfs: PathBuf,
    /// The configuration.
    pub spec: Spec,
    /// The same as raw JSON, for members that the typed form lacks.
    pub raw: serde_json::Value,
    /// What the log says of it, a line each.
    pub remarks: Vec<String>,
}

impl Bundle {
    /// Reads the bundle in `path`.
    ///
    /// # Errors
    /// See [`Error`]; each names the file or member.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let config = path.join("config.json");
        let text = std::fs::read(&config).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::Missing {
                path: config.clone(),
            },
            _ => Error::Read {
                path: config.clone(),
                source,
            },
        })?;
        Self::parse(path, &text)
    }

    /// Checks `text` as the config.json of the bundle in `path`.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self, Error> {
        let config = path.join("config.json");
        let parse = |source| Error::Parse {
            path: config.clone(),
            source,
        };
        let mut raw: serde_json::Value = serde_json::from_slice(text).map_err(parse)?;
        if !raw.is_object() {
            return Err(Error::Kind { path: config });
        }
        let remarks = capabilities::unknown(&raw["process"]).into_iter().collect();
        let respelled = raw.get_mut("process").is_some_and(normalize_process);
        // Errors of the text as it is written say the line.
        let spec = if respelled || raw.get("vm").is_some() {
            without_vm(raw.clone()).map_err(parse)?
        } else {
            serde_json::from_slice(text).map_err(parse)?
        };
        check_version(spec.version())?;
        require(spec.process().is_some(), "process")?;
        let args = spec
            .process()
            .as_ref()
            .and_then(|process| process.args().as_ref());
        require(args.is_some_and(|args| !args.is_empty()), "process.args")?;
        require(spec.linux().is_some(), "linux")?;
        let root = spec.root().as_ref().ok_or(Error::Field { field: "root" })?;
        let rootfs = resolve_rootfs(path, root.path())?;
        let path = std::path::absolute(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path,
            rootfs,
            spec,
            raw,
            remarks,
        })
    }
}

/// The typed form of `vm` lacks the hardware and insists on a kernel; `plan`
/// reads it from the raw one.
pub(crate) fn without_vm(mut raw: serde_json::Value) -> Result<Spec, serde_json::Error> {
    if let Some(members) = raw.as_object_mut() {
        members.remove("vm");
    }
    serde_json::from_value(raw)
}

fn require(present: bool, field: &'static str) -> Result<(), Error> {
    if present {
        Ok(())
    } else {
        Err(Error::Field { field })
    }
}

fn check_version(version: &str) -> Result<(), Error> {
    let known = ["1.0", "1.1", "1.2", "1.3"];
    let minor = version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    if known.contains(&minor.as_str()) {
        return Ok(());
    }
    Err(Error::Version {
        found: version.to_owned(),
    })
}

fn resolve_rootfs(bundle: &Path, root: &Path) -> Result<PathBuf, Error> {
    let joined = bundle.join(root);
    let path = joined.canonicalize().map_err(|source| Error::Rootfs {
        path: joined.clone(),
        source,
    })?;
    if path.is_dir() {
        Ok(path)
    } else {
        Err(Error::RootfsKind { path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_the_first_major_are_known_and_no_others() {
        for version in ["1.0.0", "1.0.2-dev", "1.2.1", "1.3.0", "1.0"] {
            check_version(version).unwrap();
        }
        for version in ["", "0.5.0", "2.0.0", "1.9.0", "one"] {
            check_version(version).unwrap_err();
        }
    }
}
