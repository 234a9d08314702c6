//! Copies between a process's streams in the guest and descriptors on the host.
//!
//! Owns one thread per stream and the counts by which an exit is reported only
//! after the output before it has been handed over. Output that goes on after that can
//! be given to another process, between two chunks. Knows nothing of terminals.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

const BUFFER_LEN: usize = 64 * 1024;
/// A copier needs its buffer and little more.
const STACK_LEN: usize = 128 * 1024;

/// An agent has sent all that it announces by the time it does; this is for the
/// way here on a busy host. A guest that takes longer in all lies.
pub const STALL_LIMIT: Duration = Duration::from_secs(30);
/// What is allowed to a killed process's last words, in all.
const HURRY: Duration = Duration::from_secs(5);

/// The guest's ends: what the agent has connected.
#[derive(Debug, Default)]
pub struct GuestStreams {
    /// Towards the process.
    pub stdin: Option<UnixStream>,
    /// From the process.
    pub stdout: Option<UnixStream>,
    /// From the process; none with a terminal.
    pub stderr: Option<UnixStream>,
}

/// The host's ends.
#[derive(Debug)]
pub struct HostStdio {
    /// Read from.
    pub stdin: File,
    /// Written to.
    pub stdout: File,
    /// Written to.
    pub stderr: File,
}

impl HostStdio {
    /// This process's own standard streams.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub fn inherited() -> io::Result<Self> {
        Ok(Self {
            stdin: io::stdin().as_fd().try_clone_to_owned()?.into(),
            stdout: io::stdout().as_fd().try_clone_to_owned()?.into(),
            stderr: io::stderr().as_fd().try_clone_to_owned()?.into(),
        })
    }

    /// A terminal, which is all three in one.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub fn terminal(terminal: &File) -> io::Result<Self> {
        Ok(Self {
            stdin: terminal.try_clone()?,
            stdout: terminal.try_clone()?,
            stderr: terminal.try_clone()?,
        })
    }
}

/// Whether there is anything to read: /dev/null has nothing, and the guest has its own.
#[must_use]
pub fn has_input(stdin: &File) -> bool {
    !is_null(stdin)
}

/// Whether it is /dev/null.
pub(crate) fn is_null(file: &File) -> bool {
    let null = std::fs::metadata("/dev/null").map(|file| file.rdev());
    matches!((file.metadata(), null), (Ok(file), Ok(null)) if file.rdev() == null)
}

/// A stream that has not ended, and where what comes is written to.
#[derive(Debug)]
pub(crate) struct Rest {
    pub(crate) from: UnixStream,
    pub(crate) to: File,
}

/// How far one output stream has got.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Progress {
    bytes: u64,
    /// What has come is being written: the caller is the one who is slow.
    writing: bool,
    ended: bool,
}

#[derive(Debug)]
struct Shared {
    progress: Mutex<[Progress; 2]>,
    changed: Condvar,
    /// A slow caller is not waited for either.
    hurried: AtomicBool,
    /// Readable once the streams are to be left as they are.
    stop: OwnedFd,
    /// Those that were.
    rest: Mutex<Vec<Rest>>,
}

impl Shared {
    fn new() -> io::Result<Self> {
        Ok(Self {
            progress: Mutex::default(),
            changed: Condvar::new(),
            hurried: AtomicBool::new(false),
            stop: eventfd(0, EventfdFlags::CLOEXEC)?,
            rest: Mutex::default(),
        })
    }

    /// Waits until there is something to read. Whether it is to be read.
    fn await_bytes(&self, from: &UnixStream) -> io::Result<bool> {
        let mut both = [
            PollFd::new(from, PollFlags::IN),
            PollFd::new(&self.stop, PollFlags::IN),
        ];
        match poll(&mut both, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let [_, stop] = both;
        Ok(stop.revents().is_empty())
    }

    fn lock(&self) -> MutexGuard<'_, [Progress; 2]> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, stream: usize, change: impl FnOnce(&mut Progress)) {
        if let Some(progress) = self.lock().get_mut(stream) {
            change(progress);
        }
        self.changed.notify_all();
    }
}

/// The output of one process, on its way to the host's descriptors.
#[derive(Debug, Clone)]
pub struct Output {
    shared: Arc<Shared>,
    /// Which of the two is standard error: with a terminal both are one.
    errors: usize,
}

impl Output {
    /// Waits until the process, and all that have its standard error, have closed it.
    pub fn await_end_of_errors(&self) {
        let goes_on = |progress: &mut [Progress; 2]| {
            let errors = progress.get(self.errors);
            errors.is_some_and(|errors| !errors.ended)
        };
        let waited = self.shared.changed.wait_while(self.shared.lock(), goes_on);
        drop(waited);
    }

    /// From now on all that is still to come is given up after five seconds.
    pub fn cap_drain_time(&self) {
        let _progress = self.shared.lock();
        self.shared.hurried.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
    }

    /// Stops copying, and returns what has not ended, to be copied by another process. A
    /// stream whose last chunk is not taken within the limit is not among it.
    pub(crate) fn leave(&self, limit: Duration) -> Vec<Rest> {
        // There is room for one number, whatever was written before.
        rustix::io::write(&self.shared.stop, &1_u64.to_ne_bytes()).ok();
        self.await_end(limit);
        let mut rest = self.shared.rest.lock();
        let rest = rest.as_deref_mut();
        rest.map_or_else(|_| Vec::new(), std::mem::take)
    }

    /// Waits until all has ended, `limit` at most.
    pub(crate) fn await_end(&self, limit: Duration) {
        let goes_on = |progress: &mut [Progress; 2]| progress.iter().any(|one| !one.ended);
        let progress = self.shared.lock();
        let changed = &self.shared.changed;
        drop(changed.wait_timeout_while(progress, limit, goes_on));
    }

    /// Waits until that many bytes of standard output and error were written
    /// to the host's descriptors, or the streams have ended. A caller may be as
    /// slow as it likes; a guest that keeps it waiting for `stall_limit` in all has
    /// announced what it does not have. Whether everything came.
    ///
    /// What a killed process has sent is lost where nobody takes it: its end is more
    /// than its last words, and whoever should read may be gone.
    #[must_use]
    pub fn wait_for(&self, wanted: [u64; 2], deadline: Duration) -> bool {
        let behind = |progress: &[Progress; 2]| {
            let mut pairs = progress.iter().zip(wanted);
            pairs.any(|(now, wanted)| !now.ended && now.bytes < wanted)
        };
        let mut of_guest = deadline;
        let mut of_anyone = deadline.min(HURRY);
        let mut progress = self.shared.lock();
        while behind(&progress) {
            let hurried = self.shared.hurried.load(Ordering::Relaxed);
            let caller_is_slow = progress.iter().any(|stream| stream.writing);
            // Each change of what is asked here ends the wait.
            let left = match (hurried, caller_is_slow) {
                (true, _) => of_anyone,
                (false, true) => Duration::MAX,
                (false, false) => of_guest,
            };
            if left.is_zero() {
                return false;
            }
            let begun = Instant::now();
            progress = self.wait(progress, left);
            let waited = begun.elapsed();
            if hurried {
                of_anyone = of_anyone.saturating_sub(waited);
            } else if !caller_is_slow {
                of_guest = of_guest.saturating_sub(waited);
            }
        }
        true
    }

    fn wait<'a>(
        &self,
        progress: MutexGuard<'a, [Progress; 2]>,
        limit: Duration,
    ) -> MutexGuard<'a, [Progress; 2]> {
        let waited = self.shared.changed.wait_timeout(progress, limit);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Starts copying. The threads end with their streams, or with the process.
///
/// # Errors
/// When a thread can't be started.
pub fn copy(guest: GuestStreams, host: HostStdio) -> io::Result<Output> {
    let shared = Arc::new(Shared::new()?);
    let errors = usize::from(guest.stderr.is_some());
    if let Some(stream) = guest.stdin {
        spawn("stdin", move || copy_input(host.stdin, &stream))?;
    }
    for (index, (from, to)) in [(guest.stdout, host.stdout), (guest.stderr, host.stderr)]
        .into_iter()
        .enumerate()
    {
        let shared = Arc::clone(&shared);
        match from {
            Some(from) => {
                spawn(["stdout", "stderr"][index], move || {
                    copy_output(from, to, &shared, index)
                })?;
            }
            None => shared.update(index, |progress| progress.ended = true),
        }
    }
    Ok(Output { shared, errors })
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK_LEN)
        .spawn(work)
        .map(drop)
}

/// Ends with the caller's end of file, which the process is told by half-closing.
fn copy_input(mut from: File, mut to: &UnixStream) {
    copy_all(&mut from, &mut to).ok();
    to.shutdown(Shutdown::Write).ok();
}

/// When the caller no longer reads, the process is told by closing the other way.
fn copy_output(from: UnixStream, to: File, shared: &Shared, index: usize) {
    let mut to = Counted { to, shared, index };
    let mut guest = Stoppable {
        from: &from,
        shared,
        stopped: false,
    };
    let copied = copy_all(&mut guest, &mut to);
    if copied.is_ok() && guest.stopped {
        let to = to.to;
        if let Ok(mut rest) = shared.rest.lock() {
            rest.push(Rest { from, to });
        }
    } else {
        from.shutdown(Shutdown::Both).ok();
    }
    shared.update(index, |progress| progress.ended = true);
}

/// A source that ends early where it is to be left to somebody else.
struct Stoppable<'a> {
    from: &'a UnixStream,
    shared: &'a Shared,
    stopped: bool,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.shared.await_bytes(self.from)? {
            let mut from = self.from;
            return from.read(buffer);
        }
        self.stopped = true;
        Ok(0)
    }
}

/// A destination whose progress others wait for.
struct Counted<'a> {
    to: File,
    shared: &'a Shared,
    index: usize,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.shared.update(self.index, |now| now.writing = true);
        let written = self.to.write(bytes);
        self.shared.update(self.index, |now| {
            now.writing = false;
            now.bytes += written.as_ref().map_or(0, |length| *length as u64);
        });
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn copy_all(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(err),
        };
        to.write_all(buffer.get(..length).unwrap_or_default())?;
    }
}

/// A process that lives on must not hold the caller's streams: who reads them sees
/// their end only when nobody holds them any more.
///
/// # Errors
/// When /dev/null can't be opened.
pub fn release_standard_streams() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Seek;

    fn file() -> File {
        let name = c"stdio";
        nix::sys::memfd::memfd_create(name, nix::sys::memfd::MFdFlags::empty())
            .unwrap()
            .into()
    }

    /// The host's side, whose streams but `stdout` are empty.
    fn host(stdout: impl Into<File>) -> HostStdio {
        HostStdio {
            stdin: file(),
            stdout: stdout.into(),
            stderr: file(),
        }
    }

    /// The guest's side of a process with standard output alone.
    fn only_output(stdout: UnixStream) -> GuestStreams {
        GuestStreams {
            stdout: Some(stdout),
            ..Default::default()
        }
    }

    #[test]
    fn the_exit_waits_for_the_last_byte_before_it() {
        let (guest, mut process) = UnixStream::pair().unwrap();
        let (stdin, mut process_stdin) = UnixStream::pair().unwrap();
        let mut input = file();
        input.write_all(b"question").unwrap();
        input.rewind().unwrap();
        let mut seen = file();
        let host = HostStdio {
            stdin: input,
            stdout: seen.try_clone().unwrap(),
            stderr: file(),
        };
        let streams = GuestStreams {
            stdin: Some(stdin),
            stdout: Some(guest),
            stderr: None,
        };
        let output = copy(streams, host).unwrap();
        process.write_all(b"last words").unwrap();
        assert!(output.wait_for([10, 0], STALL_LIMIT));
        let mut text = String::new();
        seen.rewind().unwrap();
        seen.read_to_string(&mut text).unwrap();
        assert_eq!(text, "last words");
        let mut question = String::new();
        process_stdin.read_to_string(&mut question).unwrap();
        assert_eq!(question, "question");
    }

    #[test]
    fn a_stream_that_goes_on_is_left_with_every_byte_that_was_not_copied() {
        let (guest, mut process) = UnixStream::pair().unwrap();
        let (ended, _) = UnixStream::pair().unwrap();
        let streams = GuestStreams {
            stdin: None,
            stdout: Some(guest),
            stderr: Some(ended),
        };
        let mut seen = file();
        let host = host(seen.try_clone().unwrap());
        let output = copy(streams, host).unwrap();
        process.write_all(b"early").unwrap();
        assert!(output.wait_for([5, 1], STALL_LIMIT));
        let mut rest = output.leave(STALL_LIMIT);
        let [one] = rest.as_mut_slice() else {
            panic!("{rest:?}");
        };
        process.write_all(b"late").unwrap();
        drop(process);
        let mut late = String::new();
        one.from.read_to_string(&mut late).unwrap();
        assert_eq!(late, "late");
        let mut text = String::new();
        seen.rewind().unwrap();
        seen.read_to_string(&mut text).unwrap();
        assert_eq!(text, "early");
    }

    /// Its caller does not read.
    #[test]
    fn a_stream_whose_last_chunk_is_not_taken_is_not_left() {
        let (guest, mut process) = UnixStream::pair().unwrap();
        let (_reader, mut writer) = io::pipe().unwrap();
        let size = nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_GETPIPE_SZ).unwrap();
        writer
            .write_all(&vec![7; size.try_into().unwrap()])
            .unwrap();
        let streams = only_output(guest);
        let host = host(OwnedFd::from(writer));
        let output = copy(streams, host).unwrap();
        process.write_all(b"chunk").unwrap();
        let reads = |progress: &mut [Progress; 2]| !progress[0].writing;
        let shared = &output.shared;
        drop(shared.changed.wait_while(shared.lock(), reads));
        assert!(output.leave(Duration::from_millis(200)).is_empty());
    }

    #[test]
    fn a_stream_that_ended_early_holds_no_one_up() {
        let (guest, process) = UnixStream::pair().unwrap();
        let streams = only_output(guest);
        let host = host(file());
        let output = copy(streams, host).unwrap();
        drop(process);
        assert!(output.wait_for([1 << 40, 0], STALL_LIMIT));
    }

    #[test]
    fn more_is_announced_than_ever_comes_and_nobody_waits_for_it() {
        let (guest, mut process) = UnixStream::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        let streams = only_output(guest);
        let host = host(OwnedFd::from(writer));
        let output = copy(streams, host).unwrap();
        let brief = Duration::from_millis(50);
        // More than a pipe holds: the caller is slow, which is its right.
        process.write_all(&vec![7; 200_000]).unwrap();
        let waiting = output.clone();
        let waiter = std::thread::spawn(move || waiting.wait_for([300_000, 0], brief));
        let mut seen = vec![0; 200_000];
        reader.read_exact(&mut seen).unwrap();
        assert!(!waiter.join().unwrap());
        // After a kill it is not.
        process.write_all(&vec![7; 100_000]).unwrap();
        let waiting = output.clone();
        let waiter = std::thread::spawn(move || waiting.wait_for([300_000, 0], brief));
        output.cap_drain_time();
        assert!(!waiter.join().unwrap());
    }

    /// Each byte is in time, and all of them never are.
    #[test]
    fn a_guest_that_sends_byte_by_byte_is_given_up_when_its_time_is_over() {
        let (guest, mut process) = UnixStream::pair().unwrap();
        let streams = only_output(guest);
        let host = host(file());
        let output = copy(streams, host).unwrap();
        let (over, clock) = std::sync::mpsc::channel::<()>();
        let trickle = std::thread::spawn(move || {
            let pause = Duration::from_millis(20);
            while clock.recv_timeout(pause) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                process.write_all(b".").unwrap();
            }
        });
        let deadline = Duration::from_millis(500);
        assert!(!output.wait_for([1 << 62, 0], deadline));
        output.cap_drain_time();
        assert!(!output.wait_for([1 << 62, 0], deadline));
        drop(over);
        trickle.join().unwrap();
    }
}
