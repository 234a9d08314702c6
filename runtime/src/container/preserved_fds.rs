//! Descriptors beside the standard streams that a caller hands on to a process in the
//! guest (`--preserve-fds`, and socket activation's `LISTEN_FDS`).
//!
//! Owns which of them can cross into a machine: what carries bytes one after the
//! other. Each becomes a socket of the process, and threads copy between both. What
//! can't cross is refused by its number, and by what it is.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::sockopt::{AcceptConn, SockType as Kind};
use nix::sys::socket::{SockType, getsockopt};
use rustix::net::{Shutdown, shutdown};
use serde_json::Value;

use crate::sys;

/// The first number after the standard streams.
const FIRST: RawFd = 3;
/// More are not handed on to one process.
pub const MAX_PRESERVED: usize = 32;

/// Why a descriptor is not handed on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such descriptor.
    #[error("unable to stat preserved-fd {number} (of {count})")]
    Missing {
        /// Its number.
        number: RawFd,
        /// How many were asked for.
        count: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It can't cross into a machine.
    #[error("descriptor {number} can't be handed to a container: {what}")]
    Kind {
        /// Its number.
        number: RawFd,
        /// What it is, and what to do instead.
        what: &'static str,
    },
    /// Too many.
    #[error("{0} descriptors are more than the {MAX_PRESERVED} that can be handed to a container")]
    TooMany(usize),
    /// `LISTEN_FDS` is not a number.
    #[error("LISTEN_FDS={0:?} is not a number")]
    ListenFds(String),
}

/// Descriptors for a process, from number 3 up.
#[derive(Debug, Default)]
pub struct Preserved {
    /// In the order of their numbers.
    pub descriptors: Vec<OwnedFd>,
    /// How many of them are those of socket activation, which come first.
    pub activated: u32,
}

impl Preserved {
    /// Takes over this process's own: those of socket activation, then `count` more.
    /// Called once, before anything else may have opened these numbers.
    ///
    /// # Errors
    /// The first that isn't there, or can't cross.
    pub fn take(count: u32) -> Result<Self, Error> {
        let activated = activated()?;
        let all = count.saturating_add(activated);
        let number = usize::try_from(all).unwrap_or(usize::MAX);
        if number > MAX_PRESERVED {
            return Err(Error::TooMany(number));
        }
        let numbers = (FIRST..).take(number);
        let descriptors = numbers.map(|number| take_one(number, all));
        Ok(Self {
            descriptors: descriptors.collect::<Result<_, _>>()?,
            activated,
        })
    }

    /// Their numbers in this process.
    #[must_use]
    pub fn numbers(&self) -> Vec<RawFd> {
        self.descriptors.iter().map(AsRawFd::as_raw_fd).collect()
    }

    /// Adds to a process's environment what it must know of them (sd_listen_fds(3)).
    pub fn add_to_environment(&self, environment: &mut Value) {
        if self.activated == 0 {
            return;
        }
        if !environment.is_array() {
            *environment = Value::Array(Vec::new());
        }
        if let Some(entries) = environment.as_array_mut() {
            entries.push(format!("LISTEN_FDS={}", self.activated).into());
            entries.push("LISTEN_PID=1".into());
        }
    }
}

fn activated() -> Result<u32, Error> {
    let Ok(text) = std::env::var("LISTEN_FDS") else {
        return Ok(0);
    };
    text.parse().map_err(|_| Error::ListenFds(text))
}

fn take_one(number: RawFd, count: u32) -> Result<OwnedFd, Error> {
    let missing = |source| Error::Missing {
        number,
        count,
        source,
    };
    let descriptor = sys::inherited(number).map_err(missing)?;
    fcntl(&descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
        .map_err(|errno| missing(errno.into()))?;
    match obstacle(&descriptor).map_err(missing)? {
        None => Ok(descriptor),
        Some(what) => Err(Error::Kind { number, what }),
    }
}

/// What keeps a descriptor from crossing.
fn obstacle(descriptor: &OwnedFd) -> io::Result<Option<&'static str>> {
    let file = File::from(descriptor.try_clone()?).metadata()?;
    let kind = file.file_type();
    if kind.is_socket() {
        if getsockopt(descriptor, AcceptConn)? {
            return Ok(Some(
                "a listening socket stays on the host; publish a port of the container instead",
            ));
        }
        let streams = getsockopt(descriptor, Kind)? == SockType::Stream;
        return Ok((!streams).then_some("only stream sockets keep their form inside a machine"));
    }
    let null = std::fs::metadata("/dev/null")?.rdev();
    let passes = kind.is_fifo() || (kind.is_char_device() && file.rdev() == null);
    Ok((!passes).then_some("only pipes and stream sockets are; mount files and devices instead"))
}

/// Copying between descriptors and a process's sockets.
#[derive(Debug)]
pub struct FdRelay {
    ended: Receiver<()>,
}

impl FdRelay {
    /// Begins, with the descriptors and the sockets in the same order.
    ///
    /// # Errors
    /// When descriptors or threads have run out.
    pub fn begin(descriptors: Vec<OwnedFd>, sockets: Vec<UnixStream>) -> io::Result<Self> {
        let (alive, ended) = mpsc::channel();
        for (descriptor, socket) in descriptors.into_iter().zip(sockets) {
            carry(descriptor, socket, &alive)?;
        }
        Ok(Self { ended })
    }

    /// Waits until all that the process has written is handed over, `limit` at most:
    /// a process that it left behind may hold the sockets open.
    pub fn finish(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let left = || deadline.saturating_duration_since(Instant::now());
        while !matches!(
            self.ended.recv_timeout(left()),
            Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout)
        ) {}
    }
}

fn carry(descriptor: OwnedFd, socket: UnixStream, alive: &Sender<()>) -> io::Result<()> {
    let access = OFlag::from_bits_retain(fcntl(&descriptor, FcntlArg::F_GETFL)?) & OFlag::O_ACCMODE;
    if access != OFlag::O_WRONLY {
        let (mut from, to) = (File::from(descriptor.try_clone()?), socket.try_clone()?);
        spawn("descriptor in", move || {
            copy(&mut from, &mut &to);
            to.shutdown(std::net::Shutdown::Write).ok();
        })?;
    }
    if access != OFlag::O_RDONLY {
        let alive = alive.clone();
        spawn("descriptor out", move || {
            let mut to = File::from(descriptor);
            copy(&mut &socket, &mut to);
            // No socket, no matter: then dropping it is its end.
            shutdown(to.as_fd(), Shutdown::Write).ok();
            drop(alive);
        })?;
    }
    Ok(())
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.stack_size(64 * 1024).spawn(work).map(drop)
}

/// Until either end has enough; what comes of that is seen at the other.
fn copy(from: &mut impl Read, to: &mut impl Write) {
    io::copy(from, to).ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn bytes_go_both_ways_and_so_does_their_end() {
        let (mut caller, handed) = UnixStream::pair().unwrap();
        let (socket, mut process) = UnixStream::pair().unwrap();
        let fd_relay = FdRelay::begin(vec![handed.into()], vec![socket]).unwrap();
        caller.write_all(b"question").unwrap();
        caller.shutdown(std::net::Shutdown::Write).unwrap();
        let mut text = String::new();
        process.read_to_string(&mut text).unwrap();
        assert_eq!(text, "question");
        process.write_all(b"answer").unwrap();
        drop(process);
        fd_relay.finish(Duration::from_secs(60));
        text.clear();
        caller.read_to_string(&mut text).unwrap();
        assert_eq!(text, "answer");
    }

    #[test]
    fn what_is_no_stream_of_bytes_is_refused() {
        let file = File::open("/proc/self/exe").unwrap();
        assert!(obstacle(&file.into()).unwrap().is_some());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let what = obstacle(&listener.into()).unwrap().unwrap();
        assert!(what.contains("listening"), "{what}");
        let (reader, writer) = io::pipe().unwrap();
        for passes in [
            reader.into(),
            writer.into(),
            File::open("/dev/null").unwrap().into(),
        ] {
            assert!(obstacle(&passes).unwrap().is_none());
        }
    }
}
