//! The agent's side of bringing a process to the point before its program.
//!
//! Owns the conversation with the processes of `setup`. What happens in them
//! stands there.

use std::{
    fs,
    os::fd::{BorrowedFd, OwnedFd},
};

use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};

use super::{
    descriptors,
    habitat::Habitat,
    handshake::{self, AgentEnd, Report},
    rlimits,
    setup::{self, Birth},
};
use crate::{
    failure::{Attempt, Errno, Failure},
    sys::clone_process,
};

/// A process that waits for the word to become its program.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// In the guest's root pid namespace.
    pub(crate) pid: Pid,
    /// Refers to it even after its number is used again.
    pub(crate) pidfd: OwnedFd,
    /// The master of its terminal, if it has one.
    pub(crate) terminal: Option<OwnedFd>,
    /// Holds it back.
    pub(crate) gate: Gate,
}

/// Holds a process back from its program. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct Gate(AgentEnd);

impl Gate {
    /// Lets the process become its program; returns when it has.
    ///
    /// # Errors
    /// Why it couldn't, in the process's own words.
    pub(crate) async fn open(self) -> Result<(), Failure> {
        if self.0.go().is_err() {
            return Err(ended_early());
        }
        let mut executes = false;
        loop {
            match self.0.next().await.doing("wait for execve")? {
                Some(Report::Executes) => executes = true,
                Some(Report::Failed(line)) => return Err(Failure::Refused(line)),
                None if executes => return Ok(()),
                None | Some(_) => return Err(ended_early()),
            }
        }
    }
}

/// Starts the processes and follows them to the point before the program.
///
/// # Errors
/// The step that failed, wherever it ran.
pub(crate) async fn launch(birth: &Birth<'_>, cgroup: BorrowedFd<'_>) -> Result<Waiting, Failure> {
    let lowest = descriptors::first_after(birth.stdio.further.len());
    let (gate, child_end) = handshake::pair(lowest).doing("make a socket pair")?;
    let Some(first) = clone_process(0, Some(cgroup)).doing("clone")? else {
        setup::run(birth, &child_end);
    };
    drop(child_end);
    let (mut number, mut ready) = (None, false);
    let mut terminal = None;
    // The two processes speak independently, so the second may be done before the
    // first has told its number.
    let pid = loop {
        if let (Some(number), true) = (number, ready) {
            break Pid::from_raw(number);
        }
        match gate.next().await.doing("follow the set-up")? {
            Some(Report::NeedsIdMaps) => {
                write_id_maps(first, birth.habitat)?;
                gate.go().doing("follow the set-up")?;
            }
            Some(Report::Continues(sibling)) => number = Some(sibling),
            Some(Report::Terminal(master)) => terminal = Some(master),
            Some(Report::Ready) => ready = true,
            Some(Report::Executes) => return Err(ended_early()),
            Some(Report::Failed(line)) => return Err(Failure::Refused(line)),
            None => return Err(ended_early()),
        }
    };
    let pidfd = open_pidfd(pid)?;
    rlimits::set(pid, birth.process.rlimits().as_deref().unwrap_or_default())?;
    Ok(Waiting {
        pid,
        pidfd,
        terminal,
        gate: Gate(gate),
    })
}

/// The process waits at its gate, so its number is still its own.
fn open_pidfd(pid: Pid) -> Result<OwnedFd, Failure> {
    let pid = rustix::process::Pid::from_raw(pid.as_raw()).ok_or_else(ended_early)?;
    pidfd_open(pid, PidfdFlags::empty()).doing("open the process")
}

fn write_id_maps(pid: Pid, habitat: &Habitat) -> Result<(), Failure> {
    for (file, member, map) in [
        ("uid_map", "uidMappings", &habitat.uids),
        ("gid_map", "gidMappings", &habitat.gids),
    ] {
        // The kernel takes a map in one write only.
        fs::write(format!("/proc/{pid}/{file}"), map.text()).map_err(|error| {
            let reason = Errno::from(error);
            Failure::Refused(format!("linux.{member}: write {file}: {reason}"))
        })?;
    }
    Ok(())
}

fn ended_early() -> Failure {
    Failure::Refused("the process ended while it was set up".to_owned())
}
