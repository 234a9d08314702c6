//! A process that copies late output: what processes that an exec has left behind still
//! write, once the command that stood for the exec has returned with its status.
//!
//! ```text
//! exec: process ends -> asks the owner, starts the relay, returns
//! relay: copies -> the streams end, or the container does
//! ```
//! Owns both sides of its start, and its end. How many there may be is the owner's to
//! decide; without one the guest's agent drops late output.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cgroup::Group;
use crate::container::left_behind::{Error, Start, StartError};
use crate::container::stdio;
use crate::container::stdio::release_standard_streams;
use crate::container::stdio::{GuestStreams, HostStdio, Output, Rest};
use crate::monitor::Outcome;
use crate::owner;
use crate::owner::{Connection, Reply, Request, SpawnOptions};
use crate::process::{step, thread};

/// A container's last words are on their way this long at most.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What a relay is told: beside it travel the connection to the container's owner, then
/// each stream and where it goes.
#[derive(Debug, Serialize, Deserialize)]
struct RelayRequest;

/// Leaves a process behind that copies `rest` as long as the container's owner, at the
/// other end of `connection`, lets it. It is put into `group`.
pub(crate) fn leave_behind(
    connection: &Connection,
    rest: &[Rest],
    group: Option<&Group>,
) -> Result<(), Error> {
    connection.send(&Request::Linger, &[])?;
    match connection.receive::<Reply>()? {
        (Reply::Done, _) => {}
        (Reply::Failed { message }, _) => return Err(Error::Refused(message)),
        _ => return Err(owner::Error::Closed.into()),
    }
    let pairs = rest
        .iter()
        .flat_map(|one| [one.from.as_raw_fd(), one.to.as_raw_fd()]);
    let numbers: Vec<_> = [connection.as_raw_fd()].into_iter().chain(pairs).collect();
    let start = Start {
        verb: "exec-relay",
        name: "the relay of late output",
        around: &SpawnOptions::default(),
        group,
    };
    start.leave([], &RelayRequest, &numbers).map(drop)
}

/// The life of such a process.
///
/// # Errors
/// When it is not told what to do, or can't begin.
pub(crate) fn run_proxy() -> Result<(), StartError> {
    let caller = owner::caller();
    let (RelayRequest, descriptors) = caller.receive::<RelayRequest>()?;
    nix::unistd::setsid().map_err(|errno| step("make a session")(errno.into()))?;
    std::env::set_current_dir("/").map_err(step("change to /"))?;
    release_standard_streams().map_err(step("close standard streams"))?;
    let mut descriptors = descriptors.into_iter();
    let connection = descriptors.next().ok_or(owner::Error::Closed)?;
    let connection = Connection::from(UnixStream::from(connection));
    let output = copy(descriptors).map_err(step("copy late output"))?;
    caller.send(&Outcome::Created, &[])?;
    drop(caller);
    let (far, streams) = (connection.duplicate(), output.clone());
    let far = far.map_err(step("share a connection"))?;
    let watch = move || {
        streams.await_end(Duration::MAX);
        far.hang_up();
    };
    thread::spawn("streams", 64, watch)?;
    // Nothing is said here any more: it is closed by the owner, or above.
    connection.receive::<Reply>().ok();
    output.await_end(LAST_WORDS);
    Ok(())
}

fn copy(mut descriptors: impl Iterator<Item = OwnedFd>) -> io::Result<Output> {
    let null = File::options().write(true).open("/dev/null")?;
    let mut pair = || {
        let from = descriptors.next().map(UnixStream::from);
        let to = descriptors
            .next()
            .map_or_else(|| null.try_clone(), |to| Ok(to.into()));
        to.map(|to| (from, to))
    };
    let ((stdout, to_stdout), (stderr, to_stderr)) = (pair()?, pair()?);
    let guest = GuestStreams {
        stdin: None,
        stdout,
        stderr,
    };
    let host = HostStdio {
        stdin: null.try_clone()?,
        stdout: to_stdout,
        stderr: to_stderr,
    };
    stdio::copy(guest, host)
}
