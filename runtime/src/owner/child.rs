//! Starts the processes that stand for one in the guest, as children of the
//! command that wants them.

use std::io;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};

use super::wire::Connection;
use crate::pidfd::Pidfd;
use crate::sys;

/// Descriptor on which such a process reads its order.
const ORDER_DESCRIPTOR: i32 = 3;
/// One whose command has hung up has ended by then, or is killed.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Bytes of a title at most; the rest of a long command line is of no use in ps.
const MAX_TITLE_LEN: usize = 1024;

/// A process that stands for one in the guest: a child of this one.
#[derive(Debug)]
pub struct OwnerChild {
    child: Child,
}

impl OwnerChild {
    /// Starts this program again with the verb `verb`; the connection is to it.
    /// Behind the verb, `title` shows users of ps what it stands for.
    /// It is forked, not exec'd in place, so that the caller's death signal and
    /// wait belong to the short-lived command.
    ///
    /// # Errors
    /// When no process can be started.
    pub fn spawn<'a>(
        verb: &str,
        title: impl IntoIterator<Item = &'a str>,
    ) -> io::Result<(Self, Connection)> {
        let (near, far) = UnixStream::pair()?;
        // It outlives the caller, who may wait for the end of what it left open.
        sys::close_the_rest_on_exec()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(verb).args(shortened(title));
        let mapping = FdMapping {
            parent_fd: far.into(),
            child_fd: ORDER_DESCRIPTOR,
        };
        command
            .fd_mappings(vec![mapping])
            .map_err(io::Error::other)?;
        let child = command.spawn()?;
        Ok((Self { child }, near.into()))
    }

    /// Its pid, which is the container's or the exec's for callers.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or_default()
    }

    /// Waits for its end, which is that of what it stands for.
    ///
    /// # Errors
    /// When it is not a child any more.
    pub fn wait(mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// Waits for the end of one that has been hung up on, and kills it if that
    /// does not come.
    pub(crate) fn end(mut self) {
        let ended =
            Pidfd::of_child(&self.child).is_ok_and(|process| process.ends_within(END_LIMIT));
        if !ended {
            self.child.kill().ok();
        }
        self.child.wait().ok();
    }
}

/// In the process that was spawned: the connection to the command.
pub(crate) fn caller() -> Connection {
    UnixStream::from(sys::adopt(ORDER_DESCRIPTOR)).into()
}

/// As many whole words as fit; what no argument can hold ends the title.
fn shortened<'a>(title: impl IntoIterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    let mut len = 0;
    title.into_iter().take_while(move |word| {
        len += word.len() + 1;
        len <= MAX_TITLE_LEN && !word.contains('\0')
    })
}
