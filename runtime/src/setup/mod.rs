//! Entering caisson into the configuration of container engines, and taking it
//! out again.
//!
//! Owns which file of an engine is changed and the way a change reaches it: whole
//! or not at all. What stands in the file is the engine's own module. Restarts no
//! engine: that is the administrator's decision.

mod containerd;
mod docker;
mod podman;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::config::installation;

/// The name by which engines know this runtime.
const RUNTIME: &str = "caisson";

/// An engine that can be told of caisson.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// Docker, by its daemon.json.
    Docker,
    /// containerd and so Kubernetes, by its config.toml.
    Containerd,
    /// Podman, by a file of its own in containers.conf.d.
    Podman,
}

/// What is to become of the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// It is there, and names this installation.
    Entered,
    /// It is gone.
    Removed,
}

/// Why an engine's configuration is not changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file can't be written.
    #[error("write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what its engine reads.
    #[error("{}: {message}: correct it first", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, on one line.
        message: String,
    },
    /// A part of this installation is missing.
    #[error(transparent)]
    Installation(#[from] installation::Error),
}

/// The programs that engines start.
#[derive(Debug)]
struct Programs {
    /// The command line.
    command: PathBuf,
    /// containerd's shim, whether or not it is there.
    shim: PathBuf,
}

/// A change of one file, not made yet.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// The file.
    pub path: PathBuf,
    /// Its text now; empty if there is none.
    pub before: String,
    /// Its text then; none if it goes away.
    pub after: Option<String>,
    /// What the administrator does next.
    pub next_step: &'static str,
    /// What only the administrator can change, beside it.
    pub hint: Option<String>,
}

impl Engine {
    /// Where its configuration lies unless the administrator says otherwise.
    #[must_use]
    pub fn default_file(self) -> &'static Path {
        Path::new(match self {
            Self::Docker => "/etc/docker/daemon.json",
            Self::Containerd => "/etc/containerd/config.toml",
            Self::Podman => "/etc/containers/containers.conf.d/50-caisson.conf",
        })
    }

    /// The program that the entry for caisson in a configuration names: a path, or the
    /// shim's name. None without an entry.
    ///
    /// # Errors
    /// When the engine could not read it either; the text is what is wrong.
    pub fn registered_program(self, configuration: &str) -> Result<Option<String>, String> {
        let program = match self {
            Self::Docker => docker::registered(configuration),
            Self::Containerd => containerd::registered(configuration),
            Self::Podman => podman::registered(configuration),
        };
        program.map_err(|message| message.replace('\n', " "))
    }

    /// What has to change in `file` for `aim`.
    ///
    /// # Errors
    /// When the file can't be read, or its engine could not read it either.
    pub fn plan(self, file: &Path, aim: Aim) -> Result<Change, Error> {
        let before = read(file)?;
        let command = std::env::current_exe().map_err(installation::Error::Exe)?;
        let programs = Programs {
            shim: command.with_file_name("containerd-shim-caisson-v2"),
            command,
        };
        let edited = match self {
            Self::Docker => docker::edit(&before, aim, &programs),
            Self::Containerd => containerd::edit(&before, aim, &programs),
            Self::Podman => Ok(podman::text(aim, &programs)),
        };
        let after = edited.map_err(|message| Error::Invalid {
            path: file.to_owned(),
            message: message.replace('\n', " "),
        })?;
        Ok(Change {
            path: file.to_owned(),
            before,
            after,
            next_step: match self {
                Self::Docker => "have Docker read it: systemctl reload docker",
                Self::Containerd => "have containerd read it: systemctl restart containerd",
                Self::Podman => "Podman reads it at its next start",
            },
            hint: match (self, aim) {
                (Self::Podman, Aim::Removed) => still_default(file),
                _ => None,
            },
        })
    }
}

impl Change {
    /// Whether all is as it should be already.
    #[must_use]
    pub fn is_none(&self) -> bool {
        match &self.after {
            Some(after) => *after == self.before && self.path.exists(),
            None => !self.path.exists(),
        }
    }

    /// The change as a unified diff.
    #[must_use]
    pub fn diff(&self) -> String {
        let name = self.path.display().to_string();
        let after = self.after.as_deref().unwrap_or_default();
        similar::TextDiff::from_lines(&self.before, after)
            .unified_diff()
            .header(&name, &name)
            .to_string()
    }

    /// Makes the change, whole or not at all.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn make(&self) -> Result<(), Error> {
        let made = match &self.after {
            Some(text) => replace(&self.path, text),
            None => fs::remove_file(&self.path),
        };
        made.map_err(|source| Error::Write {
            path: self.path.clone(),
            source,
        })
    }
}

/// A file of Podman's beside `file` that is the administrator's, and names caisson.
fn still_default(file: &Path) -> Option<String> {
    let names_ours = |path: &PathBuf| read(path).is_ok_and(|text| podman::is_default(&text));
    let path = podman::beside(file).into_iter().find(names_ours)?;
    Some(format!(
        "{} says runtime = \"{RUNTIME}\": take that out too, or Podman starts no container",
        path.display()
    ))
}

/// What stands at a path of tables, if it is there.
fn at<'d>(document: &'d toml_edit::DocumentMut, path: &[&str]) -> Option<&'d toml_edit::Item> {
    path.iter()
        .try_fold(document.as_item(), |item, name| item.get(name))
}

fn read(file: &Path) -> Result<String, Error> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(Error::Read {
            path: file.to_owned(),
            source,
        }),
    }
}

/// An engine that reads the file meanwhile sees the old text or the new one.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    // A link stays one: what it leads to is changed.
    let target = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    if let Some(folder) = target.parent() {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o755).create(folder)?;
    }
    let mut name = target.clone().into_os_string();
    name.push(format!(".caisson-{}", std::process::id()));
    let new = PathBuf::from(name);
    let written = write_beside(&new, &target, text);
    if written.is_err() {
        fs::remove_file(&new).ok();
    }
    written
}

fn write_beside(new: &Path, target: &Path, text: &str) -> std::io::Result<()> {
    let mut options = fs::File::options();
    let options = options.write(true).create_new(true);
    let mut file = options.mode(0o644).open(new)?;
    if let Ok(old) = fs::metadata(target) {
        file.set_permissions(old.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(new, target)
}

#[cfg(test)]
#[path = "setup_test.rs"]
mod tests;
