//! Finding and executing a process's program.
//!
//! Owns the texts of what can go wrong, which are runc's (and so Go's): callers
//! choose exit codes by them.

use std::{
    convert::Infallible,
    ffi::CString,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    unistd::{AccessFlags, access, execve},
};
use oci_spec::runtime::Process;

use crate::{
    failure::{self, Attempt, Failure},
    sys::may_execute,
};

/// A program with its arguments and environment, ready to be executed.
#[derive(Debug)]
pub(crate) struct Program {
    path: PathBuf,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    /// Looks the program up, as the user and in the directory in which it will run.
    ///
    /// # Errors
    /// [`Failure::Refused`] with runc's text.
    pub(crate) fn find(process: &Process, environment: &[String]) -> Result<Self, Failure> {
        let arguments = process.args().as_deref().unwrap_or_default();
        let Some(name) = arguments.first() else {
            return Err(Failure::Refused("process.args is empty".to_owned()));
        };
        let search = variable(environment, "PATH").unwrap_or_default();
        let path = look_up(name, search)
            .map_err(|reason| Failure::Refused(format!("exec: {name:?}: {reason}")))?;
        Ok(Self {
            path,
            arguments: c_strings(arguments)?,
            environment: c_strings(environment)?,
        })
    }

    /// Becomes the program.
    ///
    /// # Errors
    /// The kernel's refusal, on the program's path.
    pub(crate) fn execute(&self) -> Result<Infallible, Failure> {
        let path = self.path.as_os_str().as_encoded_bytes();
        let path = CString::new(path)
            .map_err(|_nul| Errno::EINVAL)
            .at("exec", &self.path)?;
        execve(&path, &self.arguments, &self.environment).at("exec", &self.path)
    }
}

/// The environment of a process: the last of two values counts, and HOME is that
/// of the user if it isn't given.
#[must_use]
pub(crate) fn environment(configured: &[String], uid: u32, passwd: &str) -> Vec<String> {
    let mut environment: Vec<String> = Vec::with_capacity(configured.len() + 1);
    for entry in configured {
        let name = entry.split('=').next();
        environment.retain(|earlier| earlier.split('=').next() != name);
        environment.push(entry.clone());
    }
    if variable(&environment, "HOME").is_none_or(str::is_empty) {
        environment.retain(|entry| !entry.starts_with("HOME="));
        environment.push(format!("HOME={}", home(uid, passwd)));
    }
    environment
}

fn home(uid: u32, passwd: &str) -> &str {
    let of_user = |line: &str| line.split(':').nth(2) == Some(&uid.to_string());
    passwd
        .lines()
        .find(|line| of_user(line))
        .and_then(|line| line.split(':').nth(5))
        .filter(|home| !home.is_empty())
        .unwrap_or("/")
}

fn variable<'a>(environment: &'a [String], name: &str) -> Option<&'a str> {
    environment
        .iter()
        .filter_map(|entry| entry.split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

fn look_up(name: &str, search: &str) -> Result<PathBuf, String> {
    if name.contains('/') {
        return match check_executable(Path::new(name)) {
            Ok(()) => Ok(name.into()),
            // Go names the path once more where it can't even be looked at.
            Err(Unusable::Missing(errno)) => Err(format!("stat {name}: {}", failure::Errno(errno))),
            Err(Unusable::Present(errno)) => Err(failure::Errno(errno).to_string()),
        };
    }
    // An empty entry is the current directory, from which Go refuses to run.
    search
        .split(':')
        .filter(|directory| !directory.is_empty())
        .map(|directory| Path::new(directory).join(name))
        .find(|path| check_executable(path).is_ok())
        .ok_or_else(|| "executable file not found in $PATH".to_owned())
}

/// Why a file can't be executed.
enum Unusable {
    /// It can't be looked at.
    Missing(Errno),
    /// It is there but can't be run.
    Present(Errno),
}

fn check_executable(path: &Path) -> Result<(), Unusable> {
    let metadata = std::fs::metadata(path)
        .map_err(|error| Unusable::Missing(failure::Errno::from(error).0))?;
    if metadata.is_dir() {
        return Err(Unusable::Present(Errno::EISDIR));
    }
    match access(path, AccessFlags::X_OK) {
        // Capabilities may allow it still. A profile of system calls that is older
        // than this one forbids to ask, so it comes second.
        Err(Errno::EACCES) if may_execute(path).is_ok() => Ok(()),
        result => result.map_err(Unusable::Present),
    }
}

fn c_strings(texts: &[String]) -> Result<Vec<CString>, Failure> {
    texts
        .iter()
        .map(|text| CString::new(text.as_bytes()))
        .collect::<Result<_, _>>()
        .map_err(|_nul| Failure::Refused("process: an argument or variable holds a NUL".to_owned()))
}

#[cfg(test)]
#[path = "program_test.rs"]
mod tests;
