//! Batches: a test host booted for one program, without network, optionally
//! with a virtual clock that counts instructions. That clock makes measurements
//! repeat within a few per cent, but it leaps whenever the machine is idle,
//! which breaks connections; and in a restored machine it has stopped guests.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::machine::{self, Boot, SERIAL_LOG};
use crate::supervisor;
use crate::test_host::complaints;
use crate::work_dir::WorkDir;

/// Room for what a batch leaves; takes only what is written.
const OUTPUT_BYTES: u64 = 1 << 30;

/// Why a batch has no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Files or processes on this side.
    #[error("setting up")]
    Local(#[from] io::Error),
    /// Packing the input or unpacking the output.
    #[error("tar for the batch ended with {0}")]
    Tar(std::process::ExitStatus),
    /// It was ended after the time allowed.
    #[error("batch not finished after {0:?}")]
    TimedOut(Duration),
    /// The machine ended without a result.
    #[error("batch did not finish; last of the kernel's log: {0}")]
    Unfinished(String),
    /// The kernel of the test host was in trouble, which makes results worthless.
    #[error("kernel of the test host: {0}")]
    Complaint(String),
}

/// One batch.
#[derive(Debug)]
pub struct Batch {
    /// The saved state's directory, of which memory is not used.
    pub state: PathBuf,
    /// Tree to send; the executable `run` in it is started in it.
    pub input: PathBuf,
    /// Where `log` (what `run` prints, as it comes), `kernel.log`, `status` and
    /// all that it put into the directory `$BATCH_OUT` go.
    pub output: PathBuf,
    /// Whether the virtual clock counts instructions, two nanoseconds each.
    pub count_instructions: bool,
    /// Real time after which it is given up.
    pub timeout: Duration,
}

impl Batch {
    /// Boots, runs, fetches the results. Returns the exit code of `run`.
    ///
    /// # Errors
    /// [`Error`]; the output directory then holds what there is.
    pub fn run(&self) -> Result<i32, Error> {
        let work = WorkDir::create()?;
        fs::create_dir_all(&self.output)?;
        let devices = machine::Batch {
            input: work.path().join("input.tar"),
            output: work.path().join("output.tar"),
            log: self.output.join("log"),
            count_instructions: self.count_instructions,
        };
        tar(
            &self.input,
            &["-cf".as_ref(), devices.input.as_ref(), ".".as_ref()],
        )?;
        File::create(&devices.output)?.set_len(OUTPUT_BYTES)?;
        let finished = self.boot(work.path(), &devices);
        let kernel_log = self.output.join("kernel.log");
        fs::copy(work.path().join(SERIAL_LOG), &kernel_log)?;
        finished?;
        let log = String::from_utf8_lossy(&fs::read(kernel_log)?).into_owned();
        if let Some(complaint) = complaints(&log).next() {
            return Err(Error::Complaint(complaint.to_owned()));
        }
        tar(&self.output, &["-xmf".as_ref(), devices.output.as_ref()])?;
        let unfinished =
            || Error::Unfinished(log.lines().next_back().unwrap_or_default().to_owned());
        let status = fs::read_to_string(self.output.join("status")).map_err(|_| unfinished())?;
        status.trim().parse().map_err(|_| unfinished())
    }

    fn boot(&self, work: &Path, devices: &machine::Batch) -> Result<(), Error> {
        let mut qemu = supervisor::spawn(&self.state, work, Boot::Batch(devices))?;
        let pidfd =
            pidfd_open(Pid::from_child(&qemu), PidfdFlags::empty()).map_err(io::Error::from)?;
        let timeout = Timespec::try_from(self.timeout)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout))
            .map_err(io::Error::from)?;
        if ended == 0 {
            qemu.kill()?;
        }
        qemu.wait()?;
        if ended == 0 {
            Err(Error::TimedOut(self.timeout))
        } else {
            Ok(())
        }
    }
}

fn tar(folder: &Path, arguments: &[&std::ffi::OsStr]) -> Result<(), Error> {
    let status = Command::new("tar")
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::Tar(status))
    }
}
