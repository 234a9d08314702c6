//! Runs commands in a test host from outside: one connection per command, as
//! many at once as wanted. Knows the command server's protocol, not QEMU.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::protocol::{CHUNK_BYTES, Frame, Request, Status};

/// How much later than the test host the client gives up waiting. Emulation is
/// slow, and the clocks of the two sides differ.
const GRACE: Duration = Duration::from_secs(60);

/// Time limit of a command unless it says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);

/// Why a command's result is not known. That says nothing about the command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The test host cannot be reached or the connection broke.
    #[error("connection to the test host")]
    Connection(#[source] io::Error),
    /// The server closed the connection without telling the command's end.
    #[error("test host closed the connection before the command ended")]
    NoStatus,
    /// Input could not be read or output could not be written on this side.
    #[error("local stream")]
    Local(#[source] io::Error),
    /// A transfer's command in the test host did not succeed.
    #[error("{command} in the test host: {status:?}: {stderr}")]
    Transfer {
        /// What was run.
        command: String,
        /// How it ended.
        status: Status,
        /// What it complained.
        stderr: String,
    },
}

/// A command to run in the test host.
#[derive(Debug, Clone)]
pub struct Command {
    request: Request,
    stdin: Vec<u8>,
}

impl Command {
    /// The program and its arguments, with a time limit of two minutes, no
    /// input, and `/` as working directory.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        let request = Request {
            argv: argv.into_iter().map(Into::into).collect(),
            ..Request::default()
        };
        Self {
            request,
            stdin: Vec::new(),
        }
        .timeout(DEFAULT_TIMEOUT)
    }

    /// A script for the shell of the test host.
    pub fn shell(script: impl Into<String>) -> Self {
        Self::new(["sh".to_owned(), "-c".to_owned(), script.into()])
    }

    /// Adds a variable to the environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.request.env.push((name.into(), value.into()));
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn cwd(mut self, path: impl Into<String>) -> Self {
        self.request.cwd = Some(path.into());
        self
    }

    /// Sets the time after which the command's process group is killed.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.request.timeout_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// Goes on after the command's end until every process that inherited its
    /// output has closed it (or the time is over). Otherwise what such processes
    /// write after the end is lost.
    #[must_use]
    pub fn follow_output(mut self) -> Self {
        self.request.follow_output = true;
        self
    }

    /// Sets the input. Without, the command reads end of file.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub status: Status,
    /// What it wrote to its output.
    pub stdout: Vec<u8>,
    /// What it wrote to its error output.
    pub stderr: Vec<u8>,
}

impl Output {
    /// The output as text, without white space at its end.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }
}

/// The address of a test host's command server.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    address: SocketAddr,
}

impl Client {
    /// A client for the server that is reachable at this port of the loopback
    /// address. Connections are made per command.
    #[must_use]
    pub fn connect(port: u16) -> Self {
        Self {
            address: (Ipv4Addr::LOCALHOST, port).into(),
        }
    }

    /// Runs a command and collects its output.
    ///
    /// # Errors
    /// [`Error`] if its end is not known. A command that fails is no error.
    pub fn run(&self, command: &Command) -> Result<Output, Error> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let stdin = io::Cursor::new(command.stdin.clone());
        let status = self.stream(command, stdin, &mut stdout, &mut stderr)?;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }

    /// Runs a command with streams of the caller; `stdin` replaces the command's
    /// own. `stdin` is read by a thread that may outlive the call if it blocks.
    ///
    /// # Errors
    /// As [`Client::run`], and if `stdout` or `stderr` cannot be written.
    pub fn stream(
        &self,
        command: &Command,
        stdin: impl Read + Send + 'static,
        stdout: &mut dyn Write,
        stderr: &mut dyn Write,
    ) -> Result<Status, Error> {
        let connection = Arc::new(self.open().map_err(Error::Connection)?);
        let patience = Duration::from_millis(command.request.timeout_ms).saturating_add(GRACE);
        connection
            .set_read_timeout(Some(patience))
            .map_err(Error::Connection)?;
        Frame::Request(command.request.clone())
            .write_to(&*connection)
            .map_err(Error::Connection)?;
        let sink = Arc::clone(&connection);
        let feeder = thread::Builder::new()
            .spawn(move || feed(stdin, &sink))
            .map_err(Error::Local)?;
        let status = receive(&connection, stdout, stderr);
        // The feeder's copy must not keep the connection open. Already closed
        // by the other side is as good.
        connection.shutdown(std::net::Shutdown::Both).ok();
        drop(feeder);
        status
    }

    /// Connects, again and again while connections are reset.
    fn open(&self) -> io::Result<TcpStream> {
        let deadline = Instant::now() + GRACE;
        loop {
            match greet(self.address) {
                Err(error) if is_reset(&error) && Instant::now() < deadline => {}
                result => return result,
            }
        }
    }
}

fn is_reset(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), ConnectionReset | BrokenPipe | UnexpectedEof)
}

/// Exchanges greetings, after which the server is known to listen to us.
fn greet(address: SocketAddr) -> io::Result<TcpStream> {
    let connection = TcpStream::connect(address)?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(GRACE))?;
    Frame::Hello.write_to(&connection)?;
    match Frame::read_from(&connection)? {
        Some(Frame::Hello) => Ok(connection),
        _ => Err(io::ErrorKind::ConnectionReset.into()),
    }
}

/// Sends input until it ends or the command does not want more.
fn feed(mut stdin: impl Read, connection: &TcpStream) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let length = stdin.read(&mut chunk).unwrap_or(0);
        let bytes = chunk.get(..length).unwrap_or_default().to_vec();
        if Frame::Stdin(bytes).write_to(connection).is_err() || length == 0 {
            return;
        }
    }
}

fn receive(
    connection: &TcpStream,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> Result<Status, Error> {
    let mut status = None;
    while let Some(frame) = Frame::read_from(connection).map_err(Error::Connection)? {
        match frame {
            Frame::Stdout(bytes) => write_through(stdout, &bytes)?,
            Frame::Stderr(bytes) => write_through(stderr, &bytes)?,
            Frame::Exit(end) => status = Some(end),
            Frame::Hello | Frame::Request(_) | Frame::Stdin(_) => return Err(Error::NoStatus),
        }
    }
    status.ok_or(Error::NoStatus)
}

fn write_through(sink: &mut dyn Write, bytes: &[u8]) -> Result<(), Error> {
    sink.write_all(bytes)
        .and_then(|()| sink.flush())
        .map_err(Error::Local)
}
