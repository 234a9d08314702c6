//! One connection of the command server: starts the command in a process group
//! of its own, carries its streams, reports its end. The group is killed when
//! its time is over or when the client goes away.

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::protocol::{CHUNK_BYTES, Frame, Request, Status};

/// A client that reads nothing for so long is taken for dead.
const CLIENT_PATIENCE: Duration = Duration::from_secs(300);

/// Serves one connection to its end.
pub(crate) fn run(connection: &TcpStream) -> io::Result<()> {
    connection.set_nodelay(true)?;
    connection.set_write_timeout(Some(CLIENT_PATIENCE))?;
    let request = accept_request(connection)?;
    match start(&request) {
        Ok(child) => Session::new(connection, child, &request)?.carry(),
        Err(error) => {
            Frame::Exit(Status::NotStarted(error.to_string())).write_to(connection)?;
            connection.shutdown(Shutdown::Write)?;
            discard_input(connection);
            Ok(())
        }
    }
}

/// Reads until the client closes its end. Closing earlier, with unread bytes,
/// would reset the connection and lose output under way.
fn discard_input(mut connection: &TcpStream) {
    // An error means that the client is gone, which is as good.
    io::copy(&mut connection, &mut io::sink()).ok();
}

fn accept_request(connection: &TcpStream) -> io::Result<Request> {
    let unexpected = || io::Error::new(io::ErrorKind::InvalidData, "connection without a request");
    let Some(Frame::Hello) = Frame::read_from(connection)? else {
        return Err(unexpected());
    };
    Frame::Hello.write_to(connection)?;
    match Frame::read_from(connection)? {
        Some(Frame::Request(request)) => Ok(request),
        _ => Err(unexpected()),
    }
}

fn start(request: &Request) -> io::Result<Child> {
    let (program, arguments) = request
        .argv
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "empty command"))?;
    Command::new(program)
        .args(arguments)
        .envs(request.env.iter().map(|(name, value)| (name, value)))
        .current_dir(request.cwd.as_deref().unwrap_or("/"))
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// One of the command's two outputs, until it is closed.
struct Source {
    pipe: Option<OwnedFd>,
    frame: fn(Vec<u8>) -> Frame,
}

impl Source {
    fn new(pipe: Option<impl Into<OwnedFd>>, frame: fn(Vec<u8>) -> Frame) -> io::Result<Self> {
        let pipe = pipe.map(Into::into);
        if let Some(pipe) = &pipe {
            fcntl_setfl(pipe, OFlags::NONBLOCK)?;
        }
        Ok(Self { pipe, frame })
    }

    /// Sends what the pipe holds now.
    fn drain(&mut self, connection: &TcpStream) -> io::Result<()> {
        while let Some(pipe) = &self.pipe {
            let mut chunk = vec![0; CHUNK_BYTES];
            match rustix::io::read(pipe, &mut chunk) {
                Ok(0) => self.pipe = None,
                Ok(length) => {
                    chunk.truncate(length);
                    (self.frame)(chunk).write_to(connection)?;
                }
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

struct Session<'a> {
    connection: &'a TcpStream,
    child: Child,
    pidfd: OwnedFd,
    sources: [Source; 2],
    deadline: Instant,
    follow_output: bool,
}

/// What woke the loop up, besides output.
#[derive(PartialEq, Eq)]
enum Event {
    Output,
    ChildEnded,
    ClientGone,
    TimeOver,
}

impl<'a> Session<'a> {
    fn new(connection: &'a TcpStream, mut child: Child, request: &Request) -> io::Result<Self> {
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        if let Some(stdin) = child.stdin.take() {
            feed(stdin, connection.try_clone()?)?;
        }
        let sources = [
            Source::new(child.stdout.take(), Frame::Stdout)?,
            Source::new(child.stderr.take(), Frame::Stderr)?,
        ];
        Ok(Self {
            connection,
            child,
            pidfd,
            sources,
            deadline: Instant::now() + Duration::from_millis(request.timeout_ms),
            follow_output: request.follow_output,
        })
    }

    fn carry(mut self) -> io::Result<()> {
        let result = self.carry_streams();
        if result.is_ok() {
            // The thread that feeds the command keeps the connection until the
            // client closes it.
            return self.connection.shutdown(Shutdown::Write);
        }
        // The client is gone: nobody waits for the command any more.
        self.kill_group();
        self.child.wait()?;
        result
    }

    fn carry_streams(&mut self) -> io::Result<()> {
        let status = loop {
            let event = self.wait_for_event(true)?;
            self.drain()?;
            match event {
                Event::Output => {}
                Event::ChildEnded => break ended(self.child.wait()?),
                Event::ClientGone => return Err(io::ErrorKind::ConnectionAborted.into()),
                Event::TimeOver => {
                    self.kill_group();
                    self.child.wait()?;
                    break Status::TimedOut;
                }
            }
        };
        // What the command wrote is in the pipes by now, if not sent already.
        self.drain()?;
        Frame::Exit(status).write_to(self.connection)?;
        while self.follow_output && self.sources.iter().any(|source| source.pipe.is_some()) {
            match self.wait_for_event(false)? {
                Event::ClientGone | Event::TimeOver => break,
                Event::Output | Event::ChildEnded => self.drain()?,
            }
        }
        Ok(())
    }

    fn drain(&mut self) -> io::Result<()> {
        self.sources
            .iter_mut()
            .try_for_each(|source| source.drain(self.connection))
    }

    /// Blocks until something is to be done. The child's end is looked at only
    /// `with_child`, as its descriptor stays readable afterwards.
    fn wait_for_event(&self, with_child: bool) -> io::Result<Event> {
        let remaining = self.deadline.saturating_duration_since(Instant::now());
        let Ok(timeout) = Timespec::try_from(remaining) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "time limit out of range",
            ));
        };
        let mut watched = vec![PollFd::new(self.connection, PollFlags::RDHUP)];
        if with_child {
            watched.push(PollFd::new(&self.pidfd, PollFlags::IN));
        }
        let pipes = self
            .sources
            .iter()
            .filter_map(|source| source.pipe.as_ref());
        watched.extend(pipes.map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)));
        match poll(&mut watched, Some(&timeout)) {
            Ok(0) => return Ok(Event::TimeOver),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let child_ended = with_child
            && watched
                .get(1)
                .is_some_and(|child| !child.revents().is_empty());
        let client_gone = watched
            .first()
            .is_some_and(|client| !client.revents().is_empty());
        Ok(match (child_ended, client_gone) {
            (true, _) => Event::ChildEnded,
            (false, true) => Event::ClientGone,
            (false, false) => Event::Output,
        })
    }

    fn kill_group(&self) {
        // Fails only if no process of the group is left.
        kill_process_group(Pid::from_child(&self.child), Signal::KILL).ok();
    }
}

/// Carries the client's input in a thread of its own, so that a command that
/// does not read holds up neither its output nor its time limit.
fn feed(mut stdin: ChildStdin, connection: TcpStream) -> io::Result<()> {
    thread::Builder::new().spawn(move || {
        while let Ok(Some(Frame::Stdin(bytes))) = Frame::read_from(&connection) {
            if bytes.is_empty() || stdin.write_all(&bytes).is_err() {
                break;
            }
        }
        drop(stdin);
        discard_input(&connection);
    })?;
    Ok(())
}

fn ended(status: ExitStatus) -> Status {
    match (status.code(), status.signal()) {
        (Some(code), _) => Status::Exited(code),
        (None, Some(signal)) => Status::Signaled(signal),
        (None, None) => Status::NotStarted(format!("unknown wait status {status}")),
    }
}

#[cfg(test)]
#[path = "session_test.rs"]
mod tests;
