//! The network of a sandbox that is given one: that of slirp4netns(1).
//!
//! Owns its network namespace and the program, which ends with this process. It opens
//! connections as its user does; the host's own loopback addresses are not reached.

use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::pipe::{PipeFlags, pipe_with};

use super::error::Error;

/// The name server that slirp4netns has (its manual).
pub(super) const NAME_SERVER: &str = "10.0.2.3";
const PROGRAM: &str = "slirp4netns";
/// The program's descriptors.
const READY: i32 = 3;
const EXIT: i32 = 4;
const NAMESPACE: i32 = 5;
/// Room for what it reports; the rest is lost, and the program goes on.
const MAX_REPORT_LEN: u64 = 16 << 10;

/// A network namespace with an interface.
#[derive(Debug)]
pub struct Network {
    namespace: File,
    /// The program ends when this is closed, however this process ends.
    exit: Option<OwnedFd>,
    program: Child,
}

impl Network {
    /// Starts it.
    ///
    /// # Errors
    /// The program is missing, or what it reports.
    pub fn start() -> Result<Self, Error> {
        let doing = Error::step("make a network namespace for", PROGRAM);
        let namespace = std::thread::spawn(new_namespace).join();
        let namespace = namespace
            .map_err(|_| Error::NetworkThread)?
            .map_err(doing)?;
        let (ready, ready_end) = pipe()?;
        let (exit_end, exit) = pipe()?;
        let report =
            report_file().map_err(Error::step("make a file for the report of", PROGRAM))?;
        let standard_error = report
            .try_clone()
            .map_err(Error::step("make a file for the report of", PROGRAM))?;
        let mapping = |parent_fd, child_fd| FdMapping {
            parent_fd,
            child_fd,
        };
        let shared = namespace
            .try_clone()
            .map_err(Error::step("share a descriptor with", PROGRAM))?;
        let mut command = Command::new(PROGRAM);
        command
            .args(["--configure", "--disable-host-loopback", "--mtu=1500"])
            .args(["--enable-sandbox", "--enable-seccomp"])
            .arg(format!("--ready-fd={READY}"))
            .arg(format!("--exit-fd={EXIT}"))
            .arg("--netns-type=path")
            .arg(format!("/proc/self/fd/{NAMESPACE}"))
            .arg("tap0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(standard_error)
            .fd_mappings(vec![
                mapping(ready_end, READY),
                mapping(exit_end, EXIT),
                mapping(shared.into(), NAMESPACE),
            ])
            .map_err(|_| Error::NetworkThread)?;
        let program = command.spawn().map_err(Error::NoSlirp)?;
        // Its copies of these ends are closed with it: else its end would not be seen.
        drop(command);
        let network = Self {
            namespace,
            exit: Some(exit),
            program,
        };
        network.wait_until_ready(&ready, report)
    }

    fn wait_until_ready(mut self, ready: &OwnedFd, report: File) -> Result<Self, Error> {
        let mut byte = [0];
        if rustix::io::read(ready, &mut byte) == Ok(1) {
            return Ok(self);
        }
        // It has ended; the status says less than its report.
        self.program
            .wait()
            .map_err(Error::step("wait for", PROGRAM))?;
        let text = read_report(report).map_err(Error::step("read the report of", PROGRAM))?;
        let text = text.replace('\0', "");
        Err(Error::Slirp(text.trim().replace('\n', "; ")))
    }

    /// Where the namespace is found while this process lives.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let own = std::process::id();
        PathBuf::from(format!("/proc/{own}/fd/{}", self.namespace.as_raw_fd()))
    }
}

impl Drop for Network {
    /// Waits for its end, so that no process is left.
    fn drop(&mut self) {
        drop(self.exit.take());
        self.program.wait().ok();
    }
}

/// Of a thread, which leaves this process where it is.
fn new_namespace() -> io::Result<File> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    File::open("/proc/thread-self/ns/net")
}

fn read_report(mut report: File) -> io::Result<String> {
    report.rewind()?;
    io::read_to_string(report)
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    pipe_with(PipeFlags::CLOEXEC).map_err(Error::step("make a pipe to", PROGRAM))
}

/// A file that can't grow: the program may report as long as it runs.
fn report_file() -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create("slirp4netns-report", flags)?;
    ftruncate(&file, MAX_REPORT_LEN)?;
    fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK)?;
    Ok(file.into())
}
