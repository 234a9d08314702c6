//! A process that is watched or ended by reference, never by a number that
//! another may have by then.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::sys;

/// One process, which may have ended.
#[derive(Debug)]
pub struct Pidfd(OwnedFd);

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Pidfd {
    /// The process that has this number now.
    ///
    /// # Errors
    /// When there is none, in this pid namespace.
    pub fn of(pid: i32) -> io::Result<Self> {
        let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self(pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// A child that was not waited for yet.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub fn of_child(child: &Child) -> io::Result<Self> {
        Self::of(i32::try_from(child.id()).unwrap_or_default())
    }

    /// A second handle of the same process.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Waits for its end, at most for `limit`. Whether it came.
    pub fn ends_within(&self, limit: Duration) -> bool {
        let limit = Timespec::try_from(limit).ok();
        let ready = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], limit.as_ref());
        ready.is_ok_and(|count| count > 0)
    }

    /// Sends a signal by its number; real-time ones have no name.
    ///
    /// # Errors
    /// `ESRCH` when the process has ended, `EINVAL` for a number that isn't a signal.
    pub fn signal(&self, number: i32) -> io::Result<()> {
        sys::send_signal(self.as_fd(), number)
    }

    /// Sends SIGKILL; a process that has ended is left alone.
    pub fn kill(&self) {
        pidfd_send_signal(&self.0, Signal::KILL).ok();
    }
}
