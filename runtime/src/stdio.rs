//! Copies between a process's streams in the guest and descriptors on the host.
//!
//! Owns one thread per stream and the counts by which an exit is reported only
//! after the output before it has been handed over. Knows nothing of terminals.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

const BUFFER_LEN: usize = 64 * 1024;
/// A copier needs its buffer and little more.
const STACK_LEN: usize = 128 * 1024;

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
    let null = std::fs::metadata("/dev/null").map(|file| file.rdev());
    match (stdin.metadata(), null) {
        (Ok(file), Ok(null)) => file.rdev() != null,
        _ => true,
    }
}

/// How far one output stream has got.
#[derive(Debug, Default, Clone, Copy)]
struct Progress {
    bytes: u64,
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    progress: Mutex<[Progress; 2]>,
    changed: Condvar,
}

impl Shared {
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
}

impl Output {
    /// Waits until that many bytes of standard output and error were written
    /// to the host's descriptors, or the streams have ended.
    pub fn wait_for(&self, stdout_bytes: u64, stderr_bytes: u64) {
        let wanted = [stdout_bytes, stderr_bytes];
        let behind = |progress: &mut [Progress; 2]| {
            progress
                .iter()
                .zip(wanted)
                .any(|(now, wanted)| !now.ended && now.bytes < wanted)
        };
        self.shared
            .changed
            .wait_while(self.shared.lock(), behind)
            .ok();
    }
}

/// Starts copying. The threads end with their streams, or with the process.
///
/// # Errors
/// When a thread can't be started.
pub fn copy(guest: GuestStreams, host: HostStdio) -> io::Result<Output> {
    let shared = Arc::new(Shared::default());
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
                    copy_output(&from, to, &shared, index)
                })?;
            }
            None => shared.update(index, |progress| progress.ended = true),
        }
    }
    Ok(Output { shared })
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
    copy_all(&mut from, &mut to, |_| {}).ok();
    to.shutdown(Shutdown::Write).ok();
}

/// When the caller no longer reads, the process is told by closing the other way.
fn copy_output(mut from: &UnixStream, mut to: File, shared: &Shared, index: usize) {
    let copied = copy_all(&mut from, &mut to, |bytes| {
        shared.update(index, |progress| progress.bytes += bytes);
    });
    drop(copied);
    from.shutdown(Shutdown::Both).ok();
    shared.update(index, |progress| progress.ended = true);
}

fn copy_all(
    from: &mut impl Read,
    to: &mut impl Write,
    mut copied: impl FnMut(u64),
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(err),
        };
        to.write_all(buffer.get(..length).unwrap_or_default())?;
        copied(length as u64);
    }
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
        output.wait_for(10, 0);
        let mut text = String::new();
        seen.rewind().unwrap();
        seen.read_to_string(&mut text).unwrap();
        assert_eq!(text, "last words");
        let mut question = String::new();
        process_stdin.read_to_string(&mut question).unwrap();
        assert_eq!(question, "question");
    }

    #[test]
    fn a_stream_that_ended_early_holds_no_one_up() {
        let (guest, process) = UnixStream::pair().unwrap();
        let streams = GuestStreams {
            stdin: None,
            stdout: Some(guest),
            stderr: None,
        };
        let host = HostStdio {
            stdin: file(),
            stdout: file(),
            stderr: file(),
        };
        let output = copy(streams, host).unwrap();
        drop(process);
        output.wait_for(1 << 40, 0);
    }
}
