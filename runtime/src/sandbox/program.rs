//! Starts a helper program with exactly the descriptors it needs.
//!
//! Owns the numbering (0 and 1 are /dev/null, 2 the log pipe, 3 the spec, the
//! rest as passed) and the pid namespace. What the helper gives up itself is
//! its own affair (`caisson-jail`).

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Serialize;

use super::error::{Error, step};
use super::tail::Tail;
use crate::sys;

const SPEC_NUMBER: i32 = 3;

/// A helper program about to be started.
#[derive(Debug)]
pub(crate) struct Program {
    path: PathBuf,
    arguments: Vec<String>,
    passed: Vec<OwnedFd>,
}

impl Program {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            arguments: Vec::new(),
            passed: Vec::new(),
        }
    }

    pub(crate) fn arguments(mut self, arguments: impl IntoIterator<Item = String>) -> Self {
        self.arguments.extend(arguments);
        self
    }

    /// Passes a descriptor; the answer is its number in the helper.
    pub(crate) fn pass(&mut self, descriptor: impl Into<OwnedFd>) -> i32 {
        self.passed.push(descriptor.into());
        SPEC_NUMBER + i32::try_from(self.passed.len()).unwrap_or(i32::MAX - SPEC_NUMBER)
    }

    /// Starts it, with `spec` to read as JSON.
    pub(crate) fn spawn(self, spec: &impl Serialize) -> Result<Running, Error> {
        let name = self
            .path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let spec = memory_file(&serde_json::to_vec(spec).unwrap_or_default())
            .map_err(step("write a helper's spec"))?;
        let (log, log_end) = io::pipe().map_err(step("make a pipe"))?;
        let mut mappings = vec![FdMapping {
            parent_fd: spec.into(),
            child_fd: SPEC_NUMBER,
        }];
        for (number, descriptor) in (SPEC_NUMBER + 1..).zip(self.passed) {
            mappings.push(FdMapping {
                parent_fd: descriptor,
                child_fd: number,
            });
        }
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log_end);
        command.fd_mappings(mappings).map_err(|err| Error::Spawn {
            program: self.path.clone(),
            source: io::Error::other(err),
        })?;
        // QEMU does not notice by itself that its owner is gone.
        sys::die_with_parent(&mut command);
        let child = in_own_pid_namespace(|| command.spawn()).map_err(|source| Error::Spawn {
            program: self.path.clone(),
            source,
        })?;
        Ok(Running {
            words: Tail::follow(log.into(), &name)?,
            name,
            child,
        })
    }
}

/// A helper process that runs, or has ended and was not waited for yet.
#[derive(Debug)]
pub(crate) struct Running {
    /// File name of the program.
    pub(crate) name: String,
    /// What it wrote to its log.
    pub(crate) words: Tail,
    child: Child,
}

impl Running {
    /// A handle that ends the process, and never another one with its number.
    pub(crate) fn killer(&self) -> Result<Killer, Error> {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or_else(|| step("find a helper's pid")(io::ErrorKind::NotFound.into()))?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())
            .map_err(|errno| step("open a helper's pidfd")(errno.into()))?;
        Ok(Killer(pidfd))
    }

    /// Waits for its end; the answer says how it ended, with its last words.
    pub(crate) fn wait(&mut self) -> String {
        let status = match self.child.wait() {
            Ok(status) => status.to_string(),
            Err(err) => err.to_string(),
        };
        let words = self.words.last(3);
        let separator = if words.is_empty() { "" } else { ": " };
        format!("{} ended ({status}){separator}{words}", self.name)
    }
}

/// Ends one helper process.
#[derive(Debug)]
pub(crate) struct Killer(OwnedFd);

impl Killer {
    /// Waits until the process has ended and let go of all it held.
    pub(crate) fn await_end(&self) {
        let limit = Timespec {
            tv_sec: 5,
            tv_nsec: 0,
        };
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&limit)).ok();
    }

    /// Sends SIGKILL; a process that has ended is left alone.
    pub(crate) fn kill(&self) {
        pidfd_send_signal(&self.0, Signal::KILL).ok();
    }
}

/// An unnamed file that holds `content`, read from its beginning.
fn memory_file(content: &[u8]) -> io::Result<File> {
    let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
    let mut file = File::from(nix::sys::memfd::memfd_create(c"spec", flags)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}

/// Children of `spawn` see no process but their own. Without the right to do
/// so (an ordinary user), they stay in this pid namespace.
fn in_own_pid_namespace<T>(spawn: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let own = File::open(Path::new("/proc/self/ns/pid"))?;
    match unshare(CloneFlags::CLONE_NEWPID) {
        Ok(()) => {}
        Err(nix::errno::Errno::EPERM) => return spawn(),
        Err(errno) => return Err(errno.into()),
    }
    let spawned = spawn();
    setns(own.as_fd(), CloneFlags::CLONE_NEWPID)?;
    spawned
}
