//! Starts a helper program with exactly the descriptors it needs.
//!
//! Owns the numbering (0 and 1 are /dev/null, 2 the log pipe, 3 the spec, the
//! rest as passed) and the pid namespace. What the helper gives up itself is
//! its own affair (`caisson-jail`).

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use serde::Serialize;

use crate::process::error::{Error, step};
use crate::process::log_tail::LogTail;
use crate::process::memfd::memory_file;
use crate::process::pidfd::Pidfd;
use crate::process::thread;
use crate::sys;

const SPEC_NUMBER: i32 = 3;
/// A killed helper has let go of everything by then.
const END_LIMIT: Duration = Duration::from_secs(5);

/// A helper program about to be started.
#[derive(Debug)]
pub(crate) struct Program {
    path: PathBuf,
    name: String,
    passed: Vec<OwnedFd>,
}

impl Program {
    pub(crate) fn new(path: PathBuf) -> Self {
        let name = path.file_name().unwrap_or_default();
        Self {
            name: name.to_string_lossy().into_owned(),
            path,
            passed: Vec::new(),
        }
    }

    /// Has it be spoken of by the name of the program that it becomes.
    pub(crate) fn called(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Passes a descriptor, and returns its number in the helper.
    pub(crate) fn pass(&mut self, descriptor: impl Into<OwnedFd>) -> i32 {
        self.passed.push(descriptor.into());
        SPEC_NUMBER + i32::try_from(self.passed.len()).unwrap_or(i32::MAX - SPEC_NUMBER)
    }

    /// Starts it, with `spec` to read as JSON.
    pub(crate) fn spawn(self, spec: &impl Serialize) -> Result<Running, Error> {
        let name = self.name;
        let spec = memory_file(c"spec", &serde_json::to_vec(spec).unwrap_or_default())
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
        let words = LogTail::follow(log.into(), &name)?;
        let (process, pid, end) = start(&name, command)?.map_err(|source| Error::Spawn {
            program: self.path.clone(),
            source,
        })?;
        Ok(Running {
            name,
            words,
            process,
            pid,
            end,
        })
    }
}

type Started = (Pidfd, u32, Receiver<io::Result<ExitStatus>>);

/// Starts `command` in a pid namespace of its own, from a thread that waits for
/// its end: the namespace of children is a thread's own affair, and only root
/// could leave it again; and the child dies with the thread that started it.
fn start(name: &str, mut command: Command) -> Result<io::Result<Started>, Error> {
    let (started, start) = mpsc::sync_channel(1);
    let (ended, end) = mpsc::sync_channel(1);
    thread::spawn(name, 64, move || {
        let spawned = enter_pid_namespace().and_then(|()| command.spawn());
        // It holds the descriptors that are the helper's alone.
        drop(command);
        let child = spawned.and_then(|child| Ok((Pidfd::of_child(&child)?, child)));
        match child {
            Ok((process, mut child)) => {
                started.send(Ok((process, child.id()))).ok();
                ended.send(child.wait()).ok();
            }
            Err(err) => drop(started.send(Err(err))),
        }
    })?;
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    let process = start.recv().map_err(gone).flatten();
    Ok(process.map(|(process, pid)| (process, pid, end)))
}

/// A helper process that runs, or has ended and was not waited for yet.
#[derive(Debug)]
pub(crate) struct Running {
    /// File name of the program.
    pub(crate) name: String,
    /// What it wrote to its log.
    pub(crate) words: LogTail,
    process: Pidfd,
    pid: u32,
    end: Receiver<io::Result<ExitStatus>>,
}

impl Running {
    /// A handle that ends the process, and never another one with its number.
    pub(crate) fn killer(&self) -> Result<ProcessKiller, Error> {
        let process = self.process()?;
        Ok(ProcessKiller {
            process,
            pid: self.pid,
        })
    }

    /// The process, for whoever has to reach into it.
    pub(crate) fn process(&self) -> Result<Pidfd, Error> {
        self.process
            .try_clone()
            .map_err(step("share a helper's pidfd"))
    }

    /// Waits for its end, and for what it said before.
    pub(crate) fn wait(&self) -> Ending {
        let status = self.end.recv().unwrap_or_else(|_| {
            let told = "its end was told before";
            Err(io::Error::other(told))
        });
        self.words.await_end();
        Ending {
            name: self.name.clone(),
            status,
            words: self.words.last(3),
        }
    }
}

/// How a helper process ended, with its last words.
#[derive(Debug)]
pub(crate) struct Ending {
    name: String,
    status: io::Result<ExitStatus>,
    words: String,
}

impl Ending {
    /// What it exited with, unless a signal ended it.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.as_ref().ok()?.code()
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.status {
            Ok(status) => write!(f, "{} ended ({status})", self.name)?,
            Err(err) => write!(f, "{} ended ({err})", self.name)?,
        }
        if self.words.is_empty() {
            return Ok(());
        }
        write!(f, ": {}", self.words)
    }
}

/// Ends one helper process.
#[derive(Debug)]
pub(crate) struct ProcessKiller {
    process: Pidfd,
    pid: u32,
}

impl ProcessKiller {
    /// Waits until the process has ended and let go of all it held.
    pub(crate) fn await_end(&self) {
        self.process.ends_within(END_LIMIT);
    }

    /// Its number, which may be another's once it was waited for.
    pub(crate) const fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends SIGKILL; a process that has ended is left alone.
    pub(crate) fn kill(&self) {
        self.process.kill();
    }
}

/// Children of this thread see no process but their own, and can signal no other. A
/// helper is not started without: what it could reach is not known.
fn enter_pid_namespace() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWPID).map_err(no_pid_namespace)
}

fn no_pid_namespace(errno: Errno) -> io::Error {
    let way_out = match errno {
        Errno::EPERM => {
            "run caisson as root, or give the container a user namespace \
             (linux.namespaces: user, with uidMappings)"
        }
        Errno::ENOSPC | Errno::EUSERS => "raise sysctl user.max_pid_namespaces",
        _ => "the host's kernel needs CONFIG_PID_NS",
    };
    let reason = errno.desc();
    io::Error::other(format!(
        "no pid namespace can be made for it ({reason}): {way_out}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_pid_namespace_is_an_error_with_a_way_out() {
        let error = no_pid_namespace(Errno::EPERM).to_string();
        assert_eq!(
            error,
            "no pid namespace can be made for it (Operation not permitted): run caisson as \
             root, or give the container a user namespace (linux.namespaces: user, with \
             uidMappings)"
        );
    }

    /// A thread that has no right to a pid namespace starts nothing.
    #[test]
    fn nothing_is_started_without_a_pid_namespace() {
        let refused = std::thread::spawn(|| {
            let none = rustix::thread::CapabilitySets {
                effective: rustix::thread::CapabilitySet::empty(),
                permitted: rustix::thread::CapabilitySet::empty(),
                inheritable: rustix::thread::CapabilitySet::empty(),
            };
            rustix::thread::set_capabilities(None, none).unwrap();
            start("true", Command::new("/bin/true"))
        });
        let started = refused.join().unwrap().unwrap();
        let error = started.unwrap_err().to_string();
        assert!(error.starts_with("no pid namespace"), "{error}");
    }
}
