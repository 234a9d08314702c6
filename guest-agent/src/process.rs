//! One process that the host has requested: a container's init, or an exec.
//!
//! Owns its handle and its streams. Its exit is recorded by the guest, once.

use std::os::fd::{AsFd, OwnedFd};

use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};

use crate::{
    failure::{Attempt, Failure},
    stdio::Streams,
    sys::send_signal,
};

/// A container's init, or an exec.
#[derive(Debug)]
pub(crate) struct Process {
    /// In the guest's root pid namespace.
    pub(crate) pid: Pid,
    /// Refers to it even after its number is used again.
    pub(crate) pidfd: OwnedFd,
    /// Its standard streams.
    pub(crate) streams: Streams,
    /// How far it has come.
    pub(crate) state: ProcessState,
}

/// How far a process has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessState {
    /// Its program is being executed; the host doesn't know of it yet.
    Starting,
    /// The host knows of it.
    Running,
    /// It has ended.
    Exited(Exit),
}

/// How and when a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    /// Exit code, or 128 plus the signal.
    pub(crate) status: u32,
    /// Nanoseconds since the epoch.
    pub(crate) unix_ns: u64,
}

impl Process {
    /// Sends a signal.
    ///
    /// # Errors
    /// [`Failure::Refused`] with runc's text once the process has ended.
    pub(crate) fn signal(&self, number: i32) -> Result<(), Failure> {
        if matches!(self.state, ProcessState::Exited(_)) {
            return Err(finished());
        }
        match send_signal(self.pidfd.as_fd(), number) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(finished()),
            sent => sent.step("send signal"),
        }
    }
}

/// Sends a signal to a process that was just listed, and may have ended since.
///
/// # Errors
/// A number that isn't a signal.
pub(crate) fn signal_by_number(pid: Pid, number: i32) -> Result<(), Failure> {
    let Some(pid) = rustix::process::Pid::from_raw(pid.as_raw()) else {
        return Ok(());
    };
    let sent = pidfd_open(pid, PidfdFlags::empty())
        .map_err(Into::into)
        .and_then(|pidfd| send_signal(pidfd.as_fd(), number));
    match sent {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        sent => sent.step("send signal"),
    }
}

fn finished() -> Failure {
    Failure::Refused("os: process already finished".to_owned())
}

/// The number that a shell would show: the exit code, or 128 plus the signal.
/// `None` for a process that has only stopped.
#[must_use]
pub(crate) fn exit_status(code: Option<i32>, signal: Option<i32>) -> Option<u32> {
    code.or_else(|| signal.map(|signal| 128 + signal))
        .map(i32::unsigned_abs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_counts_from_128_and_a_stop_is_no_end() {
        assert_eq!(exit_status(Some(7), None), Some(7));
        assert_eq!(exit_status(None, Some(libc::SIGKILL)), Some(137));
        assert_eq!(exit_status(None, Some(libc::SIGRTMAX())), Some(192));
        assert_eq!(exit_status(None, None), None);
    }
}
