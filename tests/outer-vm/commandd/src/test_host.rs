//! A running test host as its users see it: starting, finding, looking at and
//! ending one. The work is done by the supervisor's process and by [`Client`].

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::machine::SERIAL_LOG;
use crate::qmp::{self, Qmp};

pub(crate) const CONTROL_SOCKET: &str = "control.sock";
pub(crate) const QMP_SOCKET: &str = "qmp.sock";
const DESCRIPTION: &str = "host.json";

/// What the kernel prints when something went wrong in it. None of these is
/// ever caused by a test.
const COMPLAINTS: [&str; 5] = ["Oops", "BUG:", "WARNING:", "Kernel panic", "INFO: task"];

/// Why a test host could not be started or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The supervisor's program could not be run.
    #[error("run {program}")]
    Program {
        /// Its path in the state's directory.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The test host did not come up; the supervisor's words.
    #[error("start the test host: {0}")]
    Start(String),
    /// There is no running test host with this directory.
    #[error("test host {}", folder.display())]
    Folder {
        /// The directory.
        folder: PathBuf,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// QEMU did not save the state.
    #[error("save the state")]
    Save(#[source] qmp::Error),
}

/// A running test host. Dropping the value does not end it; see [`TestHost::stop`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TestHost {
    /// Its directory, which names it and holds its logs.
    pub folder: PathBuf,
    /// Port of the loopback address for [`Client::connect`].
    pub port: u16,
    /// The process of QEMU.
    pub qemu_pid: u32,
}

/// What the supervisor prints: one line.
#[derive(Debug, Serialize, Deserialize)]
pub enum Started {
    /// It runs.
    Running(TestHost),
    /// It does not, for this reason.
    Failed(String),
}

impl TestHost {
    /// Restores a test host from a saved state. It ends with [`TestHost::stop`],
    /// or when this process ends, however that happens.
    ///
    /// # Errors
    /// [`Error::Program`] and [`Error::Start`].
    pub fn start(state: &Path) -> Result<Self, Error> {
        Self::start_for(state, std::process::id(), false)
    }

    /// As [`TestHost::start`], ending with the process `owner`; `prepare` boots
    /// instead of restoring and writes to the state's disk.
    ///
    /// # Errors
    /// As there.
    pub fn start_for(state: &Path, owner: u32, prepare: bool) -> Result<Self, Error> {
        let program = state.join("bin/outer-vm");
        let failed = |source| Error::Program {
            program: program.clone(),
            source,
        };
        let mut command = Command::new(&program);
        command
            .arg("supervise")
            .arg("--state")
            .arg(state)
            .args(["--owner", &owner.to_string()]);
        if prepare {
            command.arg("--prepare");
        }
        // Its own process group: it outlives the caller's, and an interrupt at
        // the terminal is for the owner, whose end it notices.
        let mut supervisor = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let mut line = String::new();
        if let Some(stdout) = supervisor.stdout.take() {
            BufReader::new(stdout)
                .read_line(&mut line)
                .map_err(failed)?;
        }
        match serde_json::from_str(&line) {
            Ok(Started::Running(host)) => Ok(host),
            Ok(Started::Failed(reason)) => Err(Error::Start(reason)),
            Err(_) => Err(Error::Start(
                "the supervisor ended without a word".to_owned(),
            )),
        }
    }

    /// Describes a running machine in its directory, for [`TestHost::open`].
    pub(crate) fn create(folder: &Path, port: u16, qemu_pid: u32) -> io::Result<Self> {
        let host = Self {
            folder: folder.to_owned(),
            port,
            qemu_pid,
        };
        fs::write(folder.join(DESCRIPTION), serde_json::to_vec(&host)?)?;
        Ok(host)
    }

    /// The running test host with this directory.
    ///
    /// # Errors
    /// [`Error::Directory`] if there is none.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Folder {
            folder: folder.to_owned(),
            source,
        };
        let description = fs::read(folder.join(DESCRIPTION)).map_err(failed)?;
        serde_json::from_slice(&description).map_err(|error| failed(error.into()))
    }

    /// A client for its command server.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::connect(self.port)
    }

    /// Ends it and removes its directory. One that is gone already is no error.
    pub fn stop(&self) {
        if let Ok(mut control) = UnixStream::connect(self.folder.join(CONTROL_SOCKET)) {
            // Closed, with or without an error, when everything is gone.
            control.read_to_end(&mut Vec::new()).ok();
        }
    }

    /// Saves the machine's memory and devices to a file, after which QEMU ends.
    ///
    /// # Errors
    /// [`Error::Save`].
    pub fn save(&self, ram: &Path) -> Result<(), Error> {
        Qmp::connect(&self.folder.join(QMP_SOCKET))
            .and_then(|mut qmp| qmp.save(ram))
            .map_err(Error::Save)
    }

    /// Lines of its kernel's log that tell of a kernel in trouble. Not empty
    /// means that a result of this machine is worth nothing.
    ///
    /// # Errors
    /// [`Error::Directory`].
    pub fn complaints(&self) -> Result<Vec<String>, Error> {
        let log = self.log()?;
        Ok(complaints(&log).map(ToOwned::to_owned).collect())
    }

    /// What its kernel printed.
    ///
    /// # Errors
    /// [`Error::Directory`].
    pub fn log(&self) -> Result<String, Error> {
        let failed = |source| Error::Folder {
            folder: self.folder.clone(),
            source,
        };
        let log = fs::read(self.folder.join(SERIAL_LOG)).map_err(failed)?;
        Ok(String::from_utf8_lossy(&log).into_owned())
    }

    /// User and system time that QEMU has used, in milliseconds: the measure of
    /// work in the test host that depends least on the machine's load.
    ///
    /// # Errors
    /// [`Error::Directory`] if QEMU has ended.
    pub fn cpu_ms(&self) -> Result<u64, Error> {
        let failed = |source| Error::Folder {
            folder: self.folder.clone(),
            source,
        };
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.qemu_pid)).map_err(failed)?;
        let ticks = cpu_ticks(&stat).ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))?;
        Ok(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }
}

pub(crate) fn complaints(log: &str) -> impl Iterator<Item = &str> {
    log.lines()
        .filter(|line| COMPLAINTS.iter().any(|complaint| line.contains(complaint)))
}

/// Fields 14 and 15 of proc_pid_stat(5); counted from behind the name, which may
/// hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::{complaints, cpu_ticks};

    #[test]
    fn cpu_time_is_found_behind_any_process_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 100 0 0";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("7 (a) S"), None);
    }

    #[test]
    fn a_kernel_in_trouble_is_noticed_and_chatter_is_not() {
        let log =
            "[1] kvm: unhandled wrmsr\n[2] Oops: int3: 0000\n[3] Kernel panic - not syncing\n";
        assert_eq!(complaints(log).count(), 2);
    }
}
