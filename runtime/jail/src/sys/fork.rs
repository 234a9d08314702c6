//! A forked child that does one thing and reports an errno.

use std::io;

use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};

/// A child that has to be waited for.
#[derive(Debug)]
#[must_use]
pub(crate) struct Child(Pid);

/// Runs `work` in a child process, and nothing after it.
pub(crate) fn fork(work: impl FnOnce() -> io::Result<()>) -> io::Result<Child> {
    // SAFETY: the process has one thread (`require_one_thread` ran before),
    // so no lock can be held by a thread that the child lacks.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Child(child)),
        ForkResult::Child => {
            let code = work().map_or_else(|e| e.raw_os_error().unwrap_or(libc::EIO), |()| 0);
            // SAFETY: ends this process without running the parent's exit
            // functions; nothing of it is used afterwards.
            unsafe { libc::_exit(code) }
        }
    }
}

impl Child {
    /// Waits for the end of the child; its errno is the error.
    pub(crate) fn wait(self) -> io::Result<()> {
        loop {
            match waitpid(self.0, None) {
                Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
                Ok(WaitStatus::Exited(_, errno)) => {
                    return Err(io::Error::from_raw_os_error(errno));
                }
                Ok(_) => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}
