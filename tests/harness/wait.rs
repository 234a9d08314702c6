//! Waiting for events: the end of a process, a file, a line, a descriptor.
//!
//! Nothing here polls; that it ends at all is the time limit's affair.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A descriptor that becomes readable when the process ends.
///
/// # Errors
/// When there is no such process.
pub fn pidfd(pid: i32) -> std::io::Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or(std::io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(
        pid,
        rustix::process::PidfdFlags::empty(),
    )?)
}

/// Whether the descriptor became readable, or ended, in time.
#[must_use]
pub fn readable_within(descriptor: BorrowedFd<'_>, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    let mut polled = [PollFd::new(&descriptor, PollFlags::IN)];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).unwrap();
        match poll(&mut polled, Some(&left)) {
            Ok(ready) => return ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(err) => panic!("poll: {err}"),
        }
    }
}

/// Whether the process, which may be anyone's child, has ended in time.
#[must_use]
pub fn ends_within(pid: i32, limit: Duration) -> bool {
    pidfd(pid).is_ok_and(|pidfd| readable_within(pidfd.as_fd(), limit)) || pidfd(pid).is_err()
}

/// Waits for a child's end as conmon does, and returns its exit code or 128
/// plus the signal that ended it.
#[must_use]
pub fn exit_code_of(pid: i32) -> i32 {
    match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::empty())) {
        Ok(WaitStatus::Exited(_, code)) => code,
        Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as i32,
        other => panic!("process {pid} is not this caller's child: {other:?}"),
    }
}

/// Waits until a file of this name is in its directory.
pub fn for_file(path: &Path) {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC).unwrap();
    let folder = path.parent().unwrap();
    let events = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
    inotify.add_watch(folder, events).unwrap();
    while !path.exists() {
        inotify.read_events().unwrap();
    }
}

/// Reads up to the end of `wanted`, and returns what was read. What comes after
/// it is left for the next reader, so it is read byte by byte.
///
/// # Panics
/// When the stream ends before.
#[must_use]
pub fn for_text(stream: &mut impl Read, wanted: &str) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(wanted.as_bytes()) {
        let length = stream.read(&mut byte).unwrap_or(0);
        let text = String::from_utf8_lossy(&bytes);
        assert!(length > 0, "the stream ended without {wanted:?}: {text:?}");
        bytes.extend(byte);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The file opened for reading, from its beginning.
#[must_use]
pub fn opened(path: &Path) -> File {
    File::open(path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}
