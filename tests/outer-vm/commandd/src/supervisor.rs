//! The process that owns one running test host: starts QEMU, says when commands
//! can be run, and ends it when asked to or when the owner's process is gone.
//! QEMU dies with this process, however that ends.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::client::{self, Client, Command};
use crate::machine::{self, Boot, SERIAL_LOG, Sockets};
use crate::qmp::{self, Qmp};
use crate::server::READY;
use crate::test_host::{CONTROL_SOCKET, QMP_SOCKET, TestHost};
use crate::work_dir::WorkDir;

const QEMU_LOG: &str = "qemu.log";

const SHOWN_LINES: usize = 8;
const SERIAL_SOCKET: &str = "serial.sock";

/// Longest silence while booting; all of it takes 10 to 15 seconds of CPU time.
const BOOT_TIMEOUT: Duration = Duration::from_secs(300);

/// Why a test host did not come up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Directory, sockets or processes on this side.
    #[error("setting up")]
    Local(#[from] io::Error),
    /// The kernel or its init gave up or fell silent.
    #[error("boot; last of the kernel's log: {log}")]
    Boot {
        /// The last lines.
        log: String,
        /// How waiting for it ended.
        #[source]
        source: io::Error,
    },
    /// The owner is not a process.
    #[error("owner {0} does not exist")]
    Owner(u32),
    /// QEMU is not there or does not do as told; with what it printed.
    #[error("{error}; qemu says: {log}")]
    Qemu {
        /// What went wrong.
        error: qmp::Error,
        /// QEMU's own words.
        log: String,
    },
    /// The command server does not answer.
    #[error("command server")]
    Server(#[from] client::Error),
}

/// What to start.
#[derive(Debug)]
pub struct Start {
    /// The saved state's directory.
    pub state: PathBuf,
    /// The process whose end ends the test host.
    pub owner: u32,
    /// Boots instead of restoring, and writes to the state's disk.
    pub prepare: bool,
}

/// Starts a test host, reports it to `started`, and returns when it is ended.
///
/// # Errors
/// Only before `started` was called.
pub fn run(start: &Start, started: impl FnOnce(&TestHost)) -> Result<(), Error> {
    let owner = i32::try_from(start.owner)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(Error::Owner(start.owner))?;
    let owner = pidfd_open(owner, PidfdFlags::empty()).map_err(|_| Error::Owner(start.owner))?;
    let work = WorkDir::create()?;
    let control = UnixListener::bind(work.path().join(CONTROL_SOCKET))?;
    let boot = if start.prepare {
        Boot::Prepare
    } else {
        Boot::Restore
    };
    let qemu = Qemu(spawn(&start.state, work.path(), boot)?);
    let port = bring_up(start, work.path()).map_err(|error| {
        let log = last_lines(&work.path().join(QEMU_LOG));
        Error::Qemu { error, log }
    })?;
    if start.prepare {
        wait_for_ready(work.path()).map_err(|source| Error::Boot {
            log: last_lines(&work.path().join(SERIAL_LOG)),
            source,
        })?;
    }
    set_clock(&Client::connect(port))?;
    let host = TestHost::create(work.path(), port, qemu.0.id())?;
    started(&host);
    wait_for_end(&owner, &control)?;
    // Before the reply that the closing of the control connection is.
    drop(qemu);
    drop(work);
    Ok(())
}

/// Ends QEMU when it goes out of scope.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        // Fails only if it has ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts QEMU with what it prints in the work directory.
pub(crate) fn spawn(state: &Path, work: &Path, boot: Boot<'_>) -> io::Result<Child> {
    let sockets = Sockets {
        qmp: listen(&work.join(QMP_SOCKET))?,
        serial: listen(&work.join(SERIAL_SOCKET))?,
    };
    let log = File::create(work.join(QEMU_LOG))?;
    machine::qemu(state, work, boot, &sockets)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

/// A listening socket that a child inherits under the same number.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = UnixListener::bind(path)?;
    fcntl_setfd(&socket, FdFlags::empty())?;
    Ok(socket)
}

fn bring_up(start: &Start, work: &Path) -> Result<u16, qmp::Error> {
    let mut qmp = Qmp::connect(&work.join(QMP_SOCKET))?;
    if !start.prepare {
        qmp.load(&start.state.join("ram"))?;
    }
    qmp.forwarded_port()
}

/// Reads the kernel's log until the init of a booting test host says that the
/// command server listens. Connections made earlier would be reset.
fn wait_for_ready(work: &Path) -> io::Result<()> {
    let serial = UnixStream::connect(work.join(SERIAL_SOCKET))?;
    serial.set_read_timeout(Some(BOOT_TIMEOUT))?;
    for line in BufReader::new(serial).split(b'\n') {
        if line?.trim_ascii() == READY.as_bytes() {
            return Ok(());
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// The end of a log for an error message, without a kernel's back trace; empty
/// if there is none.
fn last_lines(log: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let text = text.split("Call Trace:").next().unwrap_or_default();
    let mut lines: Vec<_> = text.lines().rev().take(SHOWN_LINES).collect();
    lines.reverse();
    lines.join("\n")
}

/// A restored machine has the time of its saving.
fn set_clock(client: &Client) -> Result<(), client::Error> {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    client
        .run(&Command::new([
            "date",
            "-s",
            &format!("@{:.3}", now.as_secs_f64()),
        ]))
        .map(drop)
}

/// Returns when the owner is gone or someone connects to the control socket.
/// A QEMU that ends by itself is kept in place for its log to be read.
fn wait_for_end(owner: &impl AsFd, control: &UnixListener) -> io::Result<()> {
    let mut watched = [
        PollFd::new(owner, PollFlags::IN),
        PollFd::new(control, PollFlags::IN),
    ];
    loop {
        match poll(&mut watched, None) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
