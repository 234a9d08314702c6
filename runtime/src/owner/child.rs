//! Starts the processes that stand for one in the guest, as children of the
//! command that wants them.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};

use crate::owner::wire::Connection;
use crate::process::pidfd::Pidfd;
use crate::sys;

/// Descriptor on which such a process reads its order.
const ORDER_DESCRIPTOR: i32 = 3;
/// One whose command has hung up has ended by then, or is killed.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Bytes of a title at most; the rest of a long command line is of no use in ps.
const MAX_TITLE_LEN: usize = 1024;
/// What such a process begins with.
#[derive(Debug, Default)]
pub struct SpawnOptions {
    /// The `caisson` program; this one's own file without.
    pub program: Option<PathBuf>,
    /// Standard input, output and error; this process's own without.
    pub streams: Option<[File; 3]>,
}

/// A process that stands for one in the guest: a child of this one.
#[derive(Debug)]
pub struct OwnerChild {
    child: Child,
    /// Open as long as the process may live; see [`Self::bind`].
    bond: Option<Connection>,
}

impl OwnerChild {
    /// Starts the program with the verb `verb`; the connection is to it.
    /// Behind the verb, `title` shows users of ps what it stands for.
    /// It is forked, not exec'd in place, so that the caller's death signal and
    /// wait belong to the short-lived command.
    ///
    /// # Errors
    /// When no process can be started.
    pub fn spawn<'a>(
        verb: &str,
        title: impl IntoIterator<Item = &'a str>,
        around: &SpawnOptions,
    ) -> io::Result<(Self, Connection)> {
        let (near, far) = UnixStream::pair()?;
        // It outlives the caller, who may wait for the end of what it left open.
        sys::close_the_rest_on_exec()?;
        let mut command = match &around.program {
            Some(program) => Command::new(program),
            None => Command::new(std::env::current_exe()?),
        };
        command.arg(verb).args(shortened(title));
        if let Some([stdin, stdout, stderr]) = &around.streams {
            command.stdin(stdin.try_clone()?);
            command.stdout(stdout.try_clone()?);
            command.stderr(stderr.try_clone()?);
        }
        let mapping = FdMapping {
            parent_fd: far.into(),
            child_fd: ORDER_DESCRIPTOR,
        };
        command
            .fd_mappings(vec![mapping])
            .map_err(io::Error::other)?;
        let child = command.spawn()?;
        Ok((Self { child, bond: None }, near.into()))
    }

    /// Keeps the connection open until the process has ended, so that one whose
    /// order says so ends when this process does.
    pub(crate) fn bind(&mut self, connection: Connection) {
        self.bond = Some(connection);
    }

    /// Its pid, which is the container's or the exec's for callers.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or_default()
    }

    /// Waits for its end, which is that of what it stands for. Returns the
    /// exit code, or 128 plus the signal.
    ///
    /// # Errors
    /// When it is not a child any more.
    pub fn wait(mut self) -> io::Result<u8> {
        let ended = self.child.wait();
        drop(self.bond);
        ended.map(exit_code)
    }

    /// Ends it, and with it what it stands for.
    pub fn kill(mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
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

fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .unwrap_or(u8::MAX)
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
