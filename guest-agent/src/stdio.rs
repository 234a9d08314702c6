//! The standard streams of one process: pipes or a terminal on its side, one
//! connection per direction on the host's. Further descriptors are the connections
//! themselves.
//!
//! Owns both ends and the tasks that copy between them. A task waits for the
//! slower side, so a reader that stalls stops the writer and nothing else; each
//! stream has its own task, so no stream delays another.
//!
//! A process can leave others behind that still write to its pipes. They must not be
//! ended (SIGPIPE) because the host has closed the stream: their output is read to its
//! end, and dropped then. A terminal is hung up instead.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use caisson_protocol::server::agent::Stdio;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::ioctl_fionread,
    net::Shutdown,
    pipe::{PipeFlags, pipe_with},
    termios::{OptionalActions, OutputModes, Winsize, tcgetattr, tcsetattr, tcsetwinsize},
};
use tokio::sync::Notify;

use crate::{
    failure::{Attempt, Failure},
    stream::Stream,
    transport::Transport,
};

/// Connections to the host, made before the process exists.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    further: Vec<OwnedFd>,
    plain_newlines: bool,
}

impl Connections {
    /// Connects every stream that has a port.
    ///
    /// # Errors
    /// The first connection that could not be made.
    pub(crate) async fn open(transport: &Transport, wanted: &Stdio) -> Result<Self, Failure> {
        let mut further = Vec::new();
        for &port in &wanted.further_ports {
            let stream = transport.connect(port).await;
            let stream = stream.step("connect a stream to the host")?;
            further.push(stream.into_blocking().step("hand a stream over")?);
        }
        Ok(Self {
            further,
            stdin: connect(transport, wanted.stdin_port).await?,
            stdout: connect(transport, wanted.stdout_port).await?,
            stderr: connect(transport, wanted.stderr_port).await?,
            plain_newlines: wanted.plain_newlines,
        })
    }
}

async fn connect(transport: &Transport, port: u32) -> Result<Option<Stream>, Failure> {
    if port == 0 {
        return Ok(None);
    }
    let stream = transport.connect(port).await;
    stream.map(Some).step("connect a stream to the host")
}

/// The process's ends, in the order of its descriptors.
#[derive(Debug)]
pub(crate) struct ChildEnds {
    /// From 0 to 2.
    pub(crate) standard: [OwnedFd; 3],
    /// From 3 up.
    pub(crate) further: Vec<OwnedFd>,
}

/// The agent's ends of a process's pipes; empty for a process with a terminal.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
}

/// Makes a pipe for each connected stream; the others are /dev/null. A terminal
/// is made by the process itself, inside its container, so it starts with none.
///
/// # Errors
/// No descriptors left.
pub(crate) fn pipes(
    connections: &mut Connections,
    terminal: bool,
) -> Result<(Pipes, ChildEnds), Failure> {
    let wanted = |stream: &Option<Stream>| stream.is_some() && !terminal;
    let (stdin, child_stdin) = input_pipe(wanted(&connections.stdin))?;
    let (stdout, child_stdout) = output_pipe(wanted(&connections.stdout))?;
    let (stderr, child_stderr) = output_pipe(wanted(&connections.stderr))?;
    let ours = Pipes {
        stdin,
        stdout,
        stderr,
    };
    let theirs = ChildEnds {
        standard: [child_stdin, child_stdout, child_stderr],
        further: std::mem::take(&mut connections.further),
    };
    Ok((ours, theirs))
}

fn input_pipe(wanted: bool) -> Result<(Option<Stream>, OwnedFd), Failure> {
    if !wanted {
        return Ok((None, dev_null()?));
    }
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).step("make a pipe")?;
    let ours = Stream::new(write).step("watch a pipe")?;
    Ok((Some(ours), read))
}

fn output_pipe(wanted: bool) -> Result<(Option<Stream>, OwnedFd), Failure> {
    if !wanted {
        return Ok((None, dev_null()?));
    }
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).step("make a pipe")?;
    let ours = Stream::new(read).step("watch a pipe")?;
    Ok((Some(ours), write))
}

fn dev_null() -> Result<OwnedFd, Failure> {
    use rustix::fs::{Mode, OFlags, open};
    open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).at("open", "/dev/null")
}

/// The running streams of one process.
#[derive(Debug)]
pub(crate) struct Streams {
    stdout: Option<Arc<Output>>,
    stderr: Option<Arc<Output>>,
    /// Held by the copying tasks, so that a host that goes away hangs it up.
    terminal: Weak<Stream>,
}

impl Streams {
    /// Starts copying between a process's pipes and the host.
    #[must_use]
    pub(crate) fn over_pipes(pipes: Pipes, connections: Connections) -> Self {
        if let (Some(pipe), Some(host)) = (pipes.stdin, connections.stdin) {
            tokio::spawn(copy_in(host, Arc::new(pipe)));
        }
        Self {
            stdout: start_output(Kind::Pipe, pipes.stdout.map(Arc::new), connections.stdout),
            stderr: start_output(Kind::Pipe, pipes.stderr.map(Arc::new), connections.stderr),
            terminal: Weak::new(),
        }
    }

    /// Starts copying between a process's terminal and the host.
    ///
    /// # Errors
    /// The event loop's refusal, or the terminal's.
    pub(crate) fn over_terminal(terminal: OwnedFd, connections: Connections) -> io::Result<Self> {
        if connections.plain_newlines {
            let mut modes = tcgetattr(&terminal)?;
            modes.output_modes.remove(OutputModes::ONLCR);
            tcsetattr(&terminal, OptionalActions::Now, &modes)?;
        }
        let terminal = Arc::new(Stream::new(terminal)?);
        if let Some(host) = connections.stdin {
            tokio::spawn(copy_in(host, Arc::clone(&terminal)));
        }
        let watched = Arc::downgrade(&terminal);
        Ok(Self {
            stdout: start_output(Kind::Terminal, Some(terminal), connections.stdout),
            stderr: None,
            terminal: watched,
        })
    }

    /// Records that the process has ended. Returns what it leaves of standard output and
    /// standard error.
    pub(crate) fn process_ended(&self) -> [RemainingOutput; 2] {
        let left = |output: &Option<Arc<Output>>| {
            let output = output.as_deref();
            output.map_or_else(RemainingOutput::default, Output::process_ended)
        };
        [left(&self.stdout), left(&self.stderr)]
    }

    /// Sets the size of the terminal's window.
    ///
    /// # Errors
    /// [`Failure::Refused`] for a process without a terminal.
    pub(crate) fn resize(&self, rows: u16, columns: u16) -> Result<(), Failure> {
        let Some(terminal) = self.terminal.upgrade() else {
            return Err(Failure::Refused("the process has no terminal".to_owned()));
        };
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&*terminal, size).step("resize the terminal")
    }
}

/// What a process leaves of one stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RemainingOutput {
    /// What it and its children have written so far, whether or not it has left yet.
    pub(crate) bytes: u64,
    /// Other processes have the stream open.
    pub(crate) held: bool,
}

fn start_output(
    kind: Kind,
    source: Option<Arc<Stream>>,
    host: Option<Stream>,
) -> Option<Arc<Output>> {
    let source = source?;
    let output = Arc::new(Output {
        kind,
        source: Mutex::new(Some(Arc::clone(&source))),
        read_bytes: AtomicU64::new(0),
        process_ended: AtomicBool::new(false),
        backlog: Mutex::default(),
        backlog_grew: Notify::new(),
    });
    tokio::spawn(copy_out(Arc::clone(&output), source, host?));
    Some(output)
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Pipe,
    Terminal,
}

/// One output stream of a process, which is copied to the host.
#[derive(Debug)]
struct Output {
    kind: Kind,
    /// `None` once the copying task has ended.
    source: Mutex<Option<Arc<Stream>>>,
    read_bytes: AtomicU64,
    process_ended: AtomicBool,
    /// Read ahead of the copying task, and to be sent before what it reads next.
    backlog: Mutex<Vec<u8>>,
    backlog_grew: Notify,
}

impl Output {
    fn count(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn process_ended(&self) -> RemainingOutput {
        self.process_ended.store(true, Ordering::Relaxed);
        RemainingOutput {
            held: self.is_held(),
            bytes: self.written(),
        }
    }

    /// Whether a pipe has a writer; a process that has ended has closed its own end.
    fn is_held(&self) -> bool {
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        let (Kind::Pipe, Some(pipe)) = (self.kind, source.as_deref()) else {
            return false;
        };
        let mut asked = [PollFd::new(pipe, PollFlags::empty())];
        let at_once = Timespec::default();
        let [pipe] = match poll(&mut asked, Some(&at_once)) {
            Ok(_) => asked,
            Err(_) => return false,
        };
        !pipe.revents().contains(PollFlags::HUP)
    }

    /// Whether the writers are processes that the ended one has left behind: they must not
    /// be ended by SIGPIPE.
    fn outlives_its_process(&self) -> bool {
        matches!(self.kind, Kind::Pipe) && self.process_ended.load(Ordering::Relaxed)
    }

    fn written(&self) -> u64 {
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        let unread = match (self.kind, source.as_deref()) {
            (Kind::Pipe, Some(pipe)) => ioctl_fionread(pipe).unwrap_or(0),
            (Kind::Terminal, Some(terminal)) => {
                self.read_ahead(terminal);
                0
            }
            (_, None) => 0,
        };
        self.read_bytes.load(Ordering::Relaxed) + unread
    }

    /// A terminal has no count of unread bytes: the kernel moves bytes to the
    /// master's side in the background, except before a read that finds nothing.
    fn read_ahead(&self, terminal: &Stream) {
        let mut backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = backlog.len() + TERMINAL_CAPACITY;
        while backlog.len() < limit {
            backlog.reserve(BUFFER_SIZE);
            match terminal.read_now(&mut backlog) {
                Ok(0) | Err(_) => break,
                Ok(count) => self.count(count),
            }
        }
        drop(backlog);
        self.backlog_grew.notify_one();
    }

    /// Appends the next bytes to `buffer`. Returns `false` at the end.
    async fn next(&self, source: &Stream, buffer: &mut Vec<u8>) -> bool {
        loop {
            if self.take_backlog(buffer) {
                return true;
            }
            tokio::select! {
                read = source.read(buffer) => match read {
                    Ok(count) if count > 0 => {
                        self.count(count);
                        return true;
                    }
                    // A hang-up of a terminal is EIO.
                    _ => return self.take_backlog(buffer),
                },
                () = self.backlog_grew.notified() => {}
            }
        }
    }

    /// Closes the source: a process that still writes gets SIGPIPE or EPIPE.
    fn close(&self) {
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        *source = None;
    }

    fn take_backlog(&self, buffer: &mut Vec<u8>) -> bool {
        let mut backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        buffer.append(&mut backlog);
        !buffer.is_empty()
    }
}

/// Copies until the last writer is gone, be it the process or a grandchild, or
/// until the host closes the connection.
async fn copy_out(output: Arc<Output>, source: Arc<Stream>, host: Stream) {
    let mut buffer = Vec::with_capacity(BUFFER_SIZE);
    let mut host_listens = true;
    while host_listens && output.next(&source, &mut buffer).await {
        host_listens = host.write_all(&buffer).await.is_ok();
        buffer.clear();
    }
    end_of_output(&host);
    drop(host);
    while !host_listens && output.outlives_its_process() && output.next(&source, &mut buffer).await
    {
        buffer.clear();
    }
    output.close();
}

fn end_of_output(host: &Stream) {
    // A host that has gone away needs no end of file.
    rustix::net::shutdown(host, Shutdown::Write).unwrap_or_default();
}

/// Copies until the host's end of file, or until the pipe has no reader. Dropping the
/// pipe then is the process's end of file; a terminal stays, as its output needs it.
async fn copy_in(host: Stream, process: Arc<Stream>) {
    let mut buffer = Vec::with_capacity(BUFFER_SIZE);
    loop {
        buffer.clear();
        let read = tokio::select! {
            read = host.read(&mut buffer) => read,
            () = process.abandoned() => return,
        };
        if !matches!(read, Ok(count) if count > 0) || process.write_all(&buffer).await.is_err() {
            return;
        }
    }
}

/// As much as a pipe holds: one read empties it.
const BUFFER_SIZE: usize = 64 * 1024;
/// Line discipline and flip buffers of a terminal hold less than this.
const TERMINAL_CAPACITY: usize = 128 * 1024;
