//! The standard streams of a process: what containerd names is opened here, and the
//! proxy process gets the descriptors.
//!
//! ```text
//! a path           a fifo that a client has made
//! file:///path     a file, to which all output is added
//! binary:///path   a program that takes the output (containerd's log drivers)
//! nothing          /dev/null
//! ```
//! Owns one more end of each fifo, which keeps it usable while its client closes and
//! opens its own.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::process::{Child, Command, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::console::{ConsoleSocket, Terminal};

/// Mode of a new output file, as containerd has it.
const OUTPUT_MODE: u32 = 0o644;

/// The names of a process's streams in a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StreamNames {
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) terminal: bool,
}

/// Open streams for a process: input, output, error.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) ends: [File; 3],
    pub(crate) held: HeldStreams,
}

/// What stays of streams once their proxy process has its descriptors.
#[derive(Debug)]
pub(crate) struct OpenedStreams {
    held: HeldStreams,
    /// Input and output, which are copied where the proxy makes a terminal.
    copied: Option<[File; 2]>,
}

impl Streams {
    /// Separates the descriptors of the proxy process: these, or /dev/null where it makes a
    /// terminal.
    pub(crate) fn for_proxy(self, terminal: bool) -> io::Result<(OpenedStreams, [File; 3])> {
        let held = self.held;
        if !terminal {
            let copied = None;
            return Ok((OpenedStreams { held, copied }, self.ends));
        }
        let [stdin, stdout, _] = self.ends;
        let copied = Some([stdin, stdout]);
        Ok((OpenedStreams { held, copied }, nothing()?))
    }
}

impl OpenedStreams {
    /// Starts the copying of the terminal that came over `console`, if any.
    pub(crate) fn connect(
        self,
        console: Option<&ConsoleSocket>,
    ) -> io::Result<(HeldStreams, Option<Terminal>)> {
        let (Some(console), Some([stdin, stdout])) = (console, self.copied) else {
            return Ok((self.held, None));
        };
        let terminal = Terminal::start(console.receive()?, stdin, stdout)?;
        Ok((self.held, Some(terminal)))
    }
}

/// Descriptors that are open here until the process is deleted.
#[derive(Debug, Default)]
pub(crate) struct HeldStreams {
    /// While it is open, the input doesn't end when a client closes its end.
    input: Option<File>,
    /// The same fifo's name.
    input_name: String,
    /// While these are open, the process gets no SIGPIPE when a client closes its end.
    outputs: Vec<File>,
    logger: Option<Child>,
}

impl HeldStreams {
    /// Ends the input; bytes that are in the fifo are read before its end.
    pub(crate) fn close_input(&mut self) {
        self.input = None;
    }

    /// Keeps the input open from now on, while clients close and open their ends. If a
    /// client has closed its end before, the input has ended and the fifo has no reader.
    pub(crate) fn keep_input(&mut self) {
        if !self.input_name.is_empty() {
            let flags = nix::libc::O_NONBLOCK;
            let opened = File::options()
                .write(true)
                .custom_flags(flags)
                .open(&self.input_name);
            self.input = opened.ok();
        }
    }
}

impl Drop for HeldStreams {
    /// A logger sees the end of its input, and ends by itself.
    fn drop(&mut self) {
        let Some(mut logger) = self.logger.take() else {
            return;
        };
        let reap = move || drop(logger.wait());
        let thread = std::thread::Builder::new().stack_size(64 * 1024);
        thread.spawn(reap).ok();
    }
}

/// Opens the streams of the process `id` in `namespace`.
pub(crate) fn open(names: &StreamNames, namespace: &str, id: &str) -> io::Result<Streams> {
    let mut held = HeldStreams::default();
    let stdin = open_input(&names.stdin, &mut held)?;
    let (stdout, stderr) = match names.stdout.split_once("://") {
        Some(("binary", rest)) => start_logger(rest, namespace, id, &mut held)?,
        Some(("file", path)) => {
            let file = File::options()
                .append(true)
                .create(true)
                .mode(OUTPUT_MODE)
                .open(path)?;
            (file.try_clone()?, file)
        }
        Some((other, _)) => {
            let text =
                format!("{other}:// is not supported for output: use a fifo, file:// or binary://");
            return Err(io::Error::other(text));
        }
        None => (
            open_output(&names.stdout, &mut held)?,
            open_output(if names.terminal { "" } else { &names.stderr }, &mut held)?,
        ),
    };
    Ok(Streams {
        ends: [stdin, stdout, stderr],
        held,
    })
}

/// /dev/null, three times.
fn nothing() -> io::Result<[File; 3]> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    Ok([null.try_clone()?, null.try_clone()?, null])
}

fn open_input(path: &str, held: &mut HeldStreams) -> io::Result<File> {
    if path.is_empty() {
        return File::open("/dev/null");
    }
    let input = open_at_once(path)?;
    if is_fifo(&input)? {
        held.input = Some(File::options().write(true).open(path)?);
        held.input_name = path.to_owned();
        block(&input)?;
    }
    Ok(input)
}

fn open_output(path: &str, held: &mut HeldStreams) -> io::Result<File> {
    if path.is_empty() {
        return File::options().write(true).open("/dev/null");
    }
    let file = File::options();
    let reader = open_at_once(path)?;
    if is_fifo(&reader)? {
        held.outputs.push(reader);
    }
    file.clone().append(true).open(path)
}

/// The reading end of a fifo, without a wait for a writer.
fn open_at_once(path: &str) -> io::Result<File> {
    let flags = nix::libc::O_NONBLOCK;
    let opened = File::options().read(true).custom_flags(flags).open(path);
    opened.map_err(|err| io::Error::new(err.kind(), format!("{path}: {err}")))
}

fn is_fifo(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.file_type().is_fifo())
}

fn block(file: &File) -> io::Result<()> {
    let flags = fcntl_getfl(file)?;
    Ok(fcntl_setfl(file, flags.difference(OFlags::NONBLOCK))?)
}

/// Starts a log driver: output on its descriptors 3 and 4; it closes 5 when it is ready.
fn start_logger(
    address: &str,
    namespace: &str,
    id: &str,
    held: &mut HeldStreams,
) -> io::Result<(File, File)> {
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let ((out, out_end), (err, err_end)) = (io::pipe()?, io::pipe()?);
    let (mut ready, ready_end) = io::pipe()?;
    let mut command = Command::new(path);
    command
        .args(query_arguments(query))
        .env("CONTAINER_ID", id)
        .env("CONTAINER_NAMESPACE", namespace)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let passed: [OwnedFd; 3] = [out.into(), err.into(), ready_end.into()];
    let mappings = (3..).zip(passed).map(|(child_fd, parent_fd)| FdMapping {
        parent_fd,
        child_fd,
    });
    command
        .fd_mappings(mappings.collect())
        .map_err(io::Error::other)?;
    let logger = command.spawn();
    // The command holds descriptors that only the logger may have.
    drop(command);
    let logger = logger.map_err(|err| io::Error::new(err.kind(), format!("{path}: {err}")))?;
    held.logger = Some(logger);
    // A byte or the end of file: both mean ready.
    let _count = ready.read(&mut [0])?;
    let file = |end: io::PipeWriter| File::from(OwnedFd::from(end));
    Ok((file(out_end), file(err_end)))
}

/// Names and values of a query, one after the other, as containerd's own shim
/// makes them a program's arguments.
fn query_arguments(query: &str) -> Vec<String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let words = pairs.flat_map(|pair| pair.split('=').take(2));
    words
        .filter(|word| !word.is_empty())
        .map(percent_decoded)
        .collect()
}

/// `%2F` is `/`, and `+` a blank.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        rest = match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                tail.get(2..).unwrap_or_default()
            }
            (b'+', _) => {
                bytes.push(b' ');
                tail
            }
            _ => {
                bytes.push(*first);
                tail
            }
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_fifo_outlives_its_client_and_ends_when_input_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("in");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let names = StreamNames {
            stdin: path.to_str().unwrap().to_owned(),
            ..Default::default()
        };
        let mut streams = open(&names, "n", "i").unwrap();
        let mut client = File::options().write(true).open(&path).unwrap();
        client.write_all(b"one").unwrap();
        drop(client);
        streams.held.close_input();
        let mut text = String::new();
        streams.ends[0].read_to_string(&mut text).unwrap();
        assert_eq!(text, "one");
    }

    #[test]
    fn a_file_gets_both_outputs_and_a_logger_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let names = StreamNames {
            stdout: format!("file://{}", path.display()),
            ..Default::default()
        };
        let [_, mut out, mut err] = open(&names, "n", "i").unwrap().ends;
        out.write_all(b"out ").unwrap();
        err.write_all(b"err").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "out err");

        let log = directory.path().join("logged");
        let logger = directory.path().join("logger.sh");
        std::fs::write(&logger, "exec 5>&-; cat <&3 >$3").unwrap();
        let names = StreamNames {
            stdout: format!(
                "binary:///bin/sh?{}=x&to={}",
                logger.display(),
                log.display()
            ),
            ..Default::default()
        };
        let streams = open(&names, "n", "i").unwrap();
        let [_, mut out, _err] = streams.ends;
        out.write_all(b"logged").unwrap();
        drop((out, _err));
        let mut held = streams.held;
        held.logger.take().unwrap().wait().unwrap();
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "logged");
    }

    #[test]
    fn an_unknown_scheme_is_refused_by_name() {
        let names = StreamNames {
            stdout: "carrier-pigeon://x".to_owned(),
            ..Default::default()
        };
        let err = open(&names, "n", "i").unwrap_err();
        assert!(err.to_string().contains("carrier-pigeon"));
        assert_eq!(query_arguments("a=%2Fx%20y&b="), ["a", "/x y", "b"]);
    }
}
