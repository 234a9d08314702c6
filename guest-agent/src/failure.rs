//! The agent's error: what was tried, on what, and the kernel's errno in the
//! words that callers of OCI runtimes look for ("no such file or directory").
//!
//! Owns no policy about which failure is fatal.

use std::{
    error::Error,
    fmt,
    path::{Path, PathBuf},
};

/// Something that could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A step on a path.
    #[error("{action} {}", path.display())]
    Path {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it was refused.
        #[source]
        cause: Errno,
    },
    /// A step that has no path.
    #[error("{action}")]
    Step {
        /// What was tried.
        action: &'static str,
        /// Why it was refused.
        #[source]
        cause: Errno,
    },
    /// A request that can't be granted.
    #[error("{0}")]
    Refused(String),
    /// The request names a container that isn't there, or has ended.
    #[error("{0}")]
    Missing(String),
    /// JSON that doesn't conform to the runtime specification.
    #[error("parse {what}")]
    Json {
        /// The document.
        what: &'static str,
        /// The parser's complaint.
        #[source]
        cause: serde_json::Error,
    },
}

impl Failure {
    /// The whole chain on one line, as it crosses to the host.
    #[must_use]
    pub fn line(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(next) = cause {
            text.push_str(": ");
            text.push_str(&next.to_string());
            cause = next.source();
        }
        text
    }
}

/// The first failure of a series of steps, each of which is taken even if others failed.
#[derive(Debug, Default)]
pub struct FirstFailure(Option<Failure>);

impl FirstFailure {
    /// Records the outcome of a step. Returns whether it succeeded.
    pub fn record(&mut self, step: Result<(), Failure>) -> bool {
        match step {
            Ok(()) => true,
            Err(failure) => {
                self.0.get_or_insert(failure);
                false
            }
        }
    }

    /// # Errors
    /// The first failure there was.
    pub fn outcome(self) -> Result<(), Failure> {
        self.0.map_or(Ok(()), Err)
    }
}

/// An errno that prints as Go prints it, because callers match Go's texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub nix::errno::Errno);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.desc().to_ascii_lowercase())
    }
}

impl Error for Errno {}

impl From<nix::errno::Errno> for Errno {
    fn from(errno: nix::errno::Errno) -> Self {
        Self(errno)
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Self {
        Self(nix::errno::Errno::from_raw(errno.raw_os_error()))
    }
}

impl From<std::io::Error> for Errno {
    /// An error that has no number came from checked input: invalid argument.
    fn from(error: std::io::Error) -> Self {
        Self(
            error
                .raw_os_error()
                .map_or(nix::errno::Errno::EINVAL, nix::errno::Errno::from_raw),
        )
    }
}

/// Names the step that a kernel error belongs to.
pub trait Attempt<T> {
    /// The step has no path.
    ///
    /// # Errors
    /// [`Failure::Step`] for every error.
    fn step(self, action: &'static str) -> Result<T, Failure>;

    /// The step concerns `path`.
    ///
    /// # Errors
    /// [`Failure::Path`] for every error.
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, Failure>;
}

impl<T, E: Into<Errno>> Attempt<T> for Result<T, E> {
    fn step(self, action: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure::Step {
            action,
            cause: error.into(),
        })
    }

    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, Failure> {
        self.map_err(|error| Failure::Path {
            action,
            path: path.as_ref().to_owned(),
            cause: error.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_carries_the_step_the_path_and_the_words_callers_match() {
        let failed: Result<(), _> = Err(nix::errno::Errno::ENOENT);
        assert_eq!(
            failed.at("mount", "/data").unwrap_err().line(),
            "mount /data: no such file or directory"
        );
        let failed: Result<(), _> = Err(std::io::Error::from_raw_os_error(libc::EACCES));
        assert_eq!(
            failed.step("execute").unwrap_err().line(),
            "execute: permission denied"
        );
    }

    #[test]
    fn of_several_failures_the_first_is_reported() {
        let refused = |text: &str| Err(Failure::Refused(text.to_owned()));
        let mut steps = FirstFailure::default();
        let done = [Ok(()), refused("one"), Ok(()), refused("two")].map(|step| steps.record(step));
        assert_eq!(done, [true, false, true, false]);
        assert_eq!(steps.outcome().unwrap_err().line(), "one");
        FirstFailure::default().outcome().unwrap();
    }
}
