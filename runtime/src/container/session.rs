//! One more process in a container, seen from the host process that stands
//! for it: streams, signals, size, exit status.
//!
//! Owns the conversation with the container's owner. Whoever asked may stay in
//! the foreground or leave this process behind; it is the same session.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cgroup::Group;
use crate::container::exec_relay;
use crate::container::preserved_fds::FdRelay;
use crate::container::signals::BlockedSignals;
use crate::container::stdio;
use crate::container::stdio::{GuestStreams, HostStdio, Output, STALL_LIMIT};
use crate::container::terminal::Pty;
use crate::log::{Level, Log};
use crate::owner;
use crate::owner::{Connection, ExecRequest, GuestTerminal, KILLED, Reply, Request};

/// Why a process could not be started, or its end not be learned.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The container does not run.
    #[error("cannot exec in a stopped container")]
    NotRunning,
    /// The owner refused; its text is the guest's.
    #[error("{0}")]
    Refused(String),
    /// The owner is gone before the process's end was told.
    #[error("the container ended with this process in it")]
    Lost,
    /// The conversation broke.
    #[error(transparent)]
    Owner(#[from] owner::Error),
    /// Standard streams, terminal or signals can't be taken over.
    #[error("{0}")]
    Io(&'static str, #[source] io::Error),
}

fn io_error(action: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io(action, source)
}

/// What is to be run.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExecSpec {
    /// OCI `process` object.
    pub process: serde_json::Value,
    /// A cgroup below the container's, relative to it; empty for the container's own.
    pub cgroup: String,
    /// In a paused container, wait for its resumption instead of being refused.
    pub ignore_paused: bool,
    /// Descriptors for it from 3 up; they travel beside the rest.
    #[serde(skip)]
    pub descriptors: Vec<OwnedFd>,
}

/// What the process has written to further descriptors is on its way this long at
/// most, unless processes that it left behind hold them open.
const CARRY_LIMIT: Duration = Duration::from_secs(2);

const OUTPUT_LOST: &str = "the last output of the process is lost: the guest did not send all that it announced, or nobody read it";

/// The last chunk of late output is taken within this, or late output is dropped.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);

/// What becomes of what is written after the process's end, by others that it has left
/// behind. They go on in any case.
#[derive(Debug, Clone, Copy)]
pub enum LateOutput<'a> {
    /// It is dropped.
    Dropped,
    /// A process that is left behind copies it, in this cgroup where there is one.
    Copied(Option<&'a Group>),
}

/// A process that runs.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
    output: Output,
    fd_relay: FdRelay,
}

/// What a process is connected with on this side.
pub(crate) struct Ends {
    pub(crate) pty: Option<Pty>,
    pub(crate) host: HostStdio,
    /// From 3 up.
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// The host's side of the process's terminal.
#[derive(Debug)]
pub enum Terminal<'a> {
    /// None: three streams.
    None,
    /// The caller's own.
    Own,
    /// A new one, whose master goes to this console socket.
    ConsoleSocket(&'a Path),
}

impl Session {
    /// Starts a process in the container whose owner listens at `socket`.
    /// Signals held back before any thread was started are passed on to it.
    ///
    /// # Errors
    /// With the guest's own text if it could not be executed.
    pub fn begin(
        socket: &Path,
        request: ExecSpec,
        terminal: &Terminal<'_>,
        signals: BlockedSignals,
    ) -> Result<Self, Error> {
        let connection = owner::connect(socket).map_err(|err| match err {
            owner::Error::Closed => Error::NotRunning,
            other => other.into(),
        })?;
        let pty = open(terminal, &request.process).map_err(io_error("open a terminal"))?;
        let host = match &pty {
            Some(pty) => pty.stdio(),
            None => HostStdio::inherited(),
        }
        .map_err(io_error("take over standard streams"))?;
        let terminal = pty.as_ref().map_or(GuestTerminal::None, Pty::in_guest);
        let stdin = stdio::has_input(&host.stdin);
        let exec = ExecRequest {
            process: sized(request.process, pty.as_ref()),
            terminal,
            stdin,
            cgroup: request.cgroup,
            ignore_paused: request.ignore_paused,
            further: request.descriptors.len(),
        };
        connection.send(&Request::Exec(exec), &[])?;
        let ends = Ends {
            pty,
            host,
            descriptors: request.descriptors,
        };
        Self::follow(connection, ends, terminal, stdin, signals)
    }

    /// Takes part in a process that was asked for over `connection`.
    pub(crate) fn follow(
        connection: Connection,
        ends: Ends,
        terminal: GuestTerminal,
        stdin: bool,
        signals: BlockedSignals,
    ) -> Result<Self, Error> {
        let (streams, further) = started(&connection, terminal.exists(), stdin)?;
        let output = stdio::copy(streams, ends.host).map_err(io_error("copy standard streams"))?;
        let fd_relay = FdRelay::begin(ends.descriptors, further)
            .map_err(io_error("copy further descriptors"))?;
        pass_on(signals, &connection, ends.pty)?;
        Ok(Self {
            connection,
            output,
            fd_relay,
        })
    }

    /// A second handle of the conversation with the container's owner.
    pub(crate) fn connection(&self) -> io::Result<Connection> {
        self.connection.duplicate()
    }

    /// Waits for the process's end and the last of its output. Output that is lost is
    /// logged, and changes no status.
    ///
    /// # Errors
    /// The container ended, and its monitor did not report a status.
    pub fn finish(self, late: LateOutput<'_>, log: &Log) -> Result<u8, Error> {
        match self.connection.receive::<Reply>() {
            Ok((
                Reply::Exited {
                    status,
                    stdout_bytes,
                    stderr_bytes,
                    stdout_held,
                    stderr_held,
                },
                _,
            )) => {
                let announced = [stdout_bytes, stderr_bytes];
                let all = await_output(&self.output, status, announced, STALL_LIMIT, log);
                self.fd_relay.finish(CARRY_LIMIT);
                let held = all && (stdout_held || stderr_held);
                if let (LateOutput::Copied(group), true) = (late, held) {
                    self.leave_relay(group);
                }
                Ok(status)
            }
            Ok(_) | Err(owner::Error::Closed) => Err(Error::Lost),
            Err(err) => Err(err.into()),
        }
    }
}

impl Session {
    fn leave_relay(&self, group: Option<&Group>) {
        let mut rest = self.output.leave(LEAVE_LIMIT);
        rest.retain(|one| !stdio::is_null(&one.to));
        if !rest.is_empty() {
            // Without a relay late output is dropped: no reason for another status.
            exec_relay::leave_behind(&self.connection, &rest, group).ok();
        }
    }
}

/// Waits for the bytes that the guest has announced, for `patience` at most. Returns
/// whether all came; if not, that is logged, unless the process was killed.
fn await_output(
    output: &Output,
    status: u8,
    announced: [u64; 2],
    patience: Duration,
    log: &Log,
) -> bool {
    if status == KILLED {
        output.cap_drain_time();
    }
    let all = output.wait_for(announced, patience);
    if !all && status != KILLED {
        log.write(Level::Warning, OUTPUT_LOST);
    }
    all
}

/// Its terminal has the caller's size from its first instruction on.
fn sized(mut process: serde_json::Value, pty: Option<&Pty>) -> serde_json::Value {
    let size = pty.and_then(Pty::size);
    if let (Some((rows, columns)), None) = (size, process.get("consoleSize")) {
        process["consoleSize"] = serde_json::json!({"height": rows, "width": columns});
    }
    process
}

fn open(terminal: &Terminal<'_>, process: &serde_json::Value) -> io::Result<Option<Pty>> {
    match terminal {
        Terminal::None => Ok(None),
        Terminal::Own => Pty::inherited().map(Some),
        Terminal::ConsoleSocket(socket) => Pty::send_fd(socket, process).map(Some),
    }
}

/// The process's streams, and the sockets that are its further descriptors.
fn started(
    connection: &Connection,
    terminal: bool,
    stdin: bool,
) -> Result<(GuestStreams, Vec<UnixStream>), Error> {
    let (reply, descriptors) = connection.receive::<Reply>()?;
    match reply {
        Reply::Started => {}
        Reply::NotRunning => return Err(Error::NotRunning),
        Reply::Failed { message } => return Err(Error::Refused(message)),
        _ => return Err(Error::Lost),
    }
    let mut descriptors = descriptors.into_iter().map(UnixStream::from);
    let streams = GuestStreams {
        stdin: if stdin { descriptors.next() } else { None },
        stdout: descriptors.next(),
        stderr: if terminal { None } else { descriptors.next() },
    };
    Ok((streams, descriptors.collect()))
}

/// Signals go to the process, except a change of size, which goes to its terminal.
fn pass_on(
    signals: BlockedSignals,
    connection: &Connection,
    pty: Option<Pty>,
) -> Result<(), Error> {
    let connection = connection
        .duplicate()
        .map_err(io_error("share a connection"))?;
    let has_terminal = pty.is_some();
    let send = move |signal: i32| {
        let request = match (&pty, signal) {
            (Some(pty), nix::libc::SIGWINCH) => match pty.size() {
                Some((rows, columns)) => Request::Resize { rows, columns },
                None => return true,
            },
            _ => Request::Signal { signal },
        };
        connection.send(&request, &[]).is_ok()
    };
    if has_terminal {
        // The size it has now is the first change of size.
        send(nix::libc::SIGWINCH);
    }
    signals.forward(send).map_err(io_error("pass signals on"))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::log::Format;

    /// So the status is what `finish` returns, whatever became of the output.
    #[test]
    fn output_that_does_not_come_is_logged_and_is_no_error() {
        let null = || {
            File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
                .unwrap()
        };
        let (here, _guest) = UnixStream::pair().unwrap();
        let streams = GuestStreams {
            stdout: Some(here),
            ..Default::default()
        };
        let host = HostStdio {
            stdin: null(),
            stdout: null(),
            stderr: null(),
        };
        let output = stdio::copy(streams, host).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let log = Log::open(Some(&path), Format::Text, false).unwrap();
        let moment = Duration::from_millis(10);
        assert!(await_output(&output, 7, [0, 0], moment, &log));
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
        assert!(!await_output(&output, 7, [5, 0], moment, &log));
        let line = fs::read_to_string(&path).unwrap();
        assert!(line.contains(OUTPUT_LOST), "{line}");
        assert!(!await_output(&output, KILLED, [5, 0], moment, &log));
        assert_eq!(fs::read_to_string(&path).unwrap(), line);
    }
}
