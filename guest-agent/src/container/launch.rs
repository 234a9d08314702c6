//! The agent's side of bringing a process to the point before its program.
//!
//! Owns the agent's end of the handshake with the processes of `setup`.

use std::{
    fs,
    os::fd::{BorrowedFd, OwnedFd},
};

use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};

use super::{
    container_namespaces::ContainerNamespaces,
    descriptors,
    handshake::{self, AgentEnd, Report},
    rlimits,
    setup::{self, LaunchSpec},
};
use crate::{
    failure::{Attempt, Errno, Failure},
    sys::clone_process,
};

/// A process that is set up and waits at its gate.
#[derive(Debug)]
pub(crate) struct PreparedProcess {
    /// In the guest's root pid namespace.
    pub(crate) pid: Pid,
    /// Refers to it even after its number is used again.
    pub(crate) pidfd: OwnedFd,
    /// The master of its terminal, if it has one.
    pub(crate) terminal: Option<OwnedFd>,
    /// Blocks it before execve.
    pub(crate) gate: Gate,
}

/// Blocks a process before execve. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct Gate(AgentEnd);

impl Gate {
    /// Has the process execute its program; returns when it has.
    ///
    /// # Errors
    /// Why it couldn't, as the process reported it.
    pub(crate) async fn open(self) -> Result<(), Failure> {
        if self.0.go().is_err() {
            return Err(ended_early());
        }
        let mut executes = false;
        loop {
            match self.0.next().await.step("wait for execve")? {
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
pub(crate) async fn launch(
    launch_spec: &LaunchSpec<'_>,
    cgroup: BorrowedFd<'_>,
) -> Result<PreparedProcess, Failure> {
    let lowest = descriptors::first_after(launch_spec.stdio.further.len());
    let (gate, child_end) = handshake::pair(lowest).step("make a socket pair")?;
    let Some(first) = clone_process(0, Some(cgroup)).step("clone")? else {
        setup::run(launch_spec, &child_end);
    };
    drop(child_end);
    let (mut number, mut ready) = (None, false);
    let mut terminal = None;
    // The two processes report independently, so the second may be ready before the
    // first has sent its pid.
    let pid = loop {
        if let (Some(number), true) = (number, ready) {
            break Pid::from_raw(number);
        }
        match gate.next().await.step("follow the set-up")? {
            Some(Report::NeedsIdMaps) => {
                write_id_maps(first, launch_spec.namespaces)?;
                gate.go().step("follow the set-up")?;
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
    rlimits::set(
        pid,
        launch_spec.process.rlimits().as_deref().unwrap_or_default(),
    )?;
    Ok(PreparedProcess {
        pid,
        pidfd,
        terminal,
        gate: Gate(gate),
    })
}

/// The process waits at its gate, so its number is still its own.
fn open_pidfd(pid: Pid) -> Result<OwnedFd, Failure> {
    let pid = rustix::process::Pid::from_raw(pid.as_raw()).ok_or_else(ended_early)?;
    pidfd_open(pid, PidfdFlags::empty()).step("open the process")
}

fn write_id_maps(pid: Pid, namespaces: &ContainerNamespaces) -> Result<(), Failure> {
    for (file, member, map) in [
        ("uid_map", "uidMappings", &namespaces.uids),
        ("gid_map", "gidMappings", &namespaces.gids),
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
