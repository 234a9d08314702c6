//! A process that stands for one more in a container, after whoever wanted it
//! has gone on: its pid is the exec's, its end has the exec's status.
//!
//! Owns both sides of its start. What it does then is `session`'s.

use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cgroup;
use crate::cgroup::Group;
use crate::container::session::{ExecSpec, LateOutput, Session, Terminal};
use crate::container::signals::BlockedSignals;
use crate::container::stdio::release_standard_streams;
use crate::log::Log;
use crate::monitor::Outcome;
use crate::owner;
use crate::owner::{KILLED, OwnerChild, SpawnOptions};
use crate::process::{self, step};

/// What such a process is told.
#[derive(Debug, Serialize, Deserialize)]
pub struct DetachedExec {
    /// Where the container's owner listens.
    pub socket: PathBuf,
    /// What is to be run.
    pub request: ExecSpec,
    /// Where the terminal's master goes.
    pub console_socket: Option<PathBuf>,
    /// The container's cgroup on the host, where callers look for it.
    pub cgroup: Option<Group>,
    /// What is written after its end is copied, as long as the container lives.
    pub copies_late_output: bool,
    /// The file for its log lines; there are none without.
    pub log: Option<PathBuf>,
    /// Log lines are JSON.
    pub log_json: bool,
}

/// Why none was left behind.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started.
    #[error("start the exec's owner")]
    Spawn(#[source] io::Error),
    /// It can't be where the container's processes are.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// The conversation with it broke.
    #[error(transparent)]
    Owner(#[from] owner::Error),
    /// The process in the guest could not be started; the text is the guest's.
    #[error("{0}")]
    Refused(String),
}

/// Why one that was started could not go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The conversation with whoever started it broke.
    #[error(transparent)]
    Owner(#[from] owner::Error),
    /// A step of its own failed.
    #[error(transparent)]
    Step(#[from] process::Error),
}

impl DetachedExec {
    /// Starts it. When this returns, the process in the guest runs.
    ///
    /// # Errors
    /// With the guest's own text if it could not be executed.
    pub fn leave_behind(&self, around: &SpawnOptions) -> Result<OwnerChild, Error> {
        let words = owner::command_line(&self.request.process);
        // Its first word may look like a flag.
        let title = ["--"].into_iter().chain(words);
        let (owner, near) = OwnerChild::spawn("exec-owner", title, around).map_err(Error::Spawn)?;
        let admitted = self
            .cgroup
            .iter()
            .try_for_each(|group| group.admit_if_possible(owner.pid()));
        if let Err(err) = admitted {
            drop(near);
            owner.end();
            return Err(err.into());
        }
        let descriptors = self.request.descriptors.iter();
        let numbers: Vec<_> = descriptors.map(AsRawFd::as_raw_fd).collect();
        let answer = near
            .send(self, &numbers)
            .and_then(|()| near.receive::<Outcome>());
        drop(near);
        match answer {
            Ok((Outcome::Created, _)) => Ok(owner),
            Ok((Outcome::Failed { message }, _)) => {
                owner.end();
                Err(Error::Refused(message))
            }
            Err(err) => {
                owner.end();
                Err(err.into())
            }
        }
    }
}

/// The life of such a process; the answer is its exit status.
///
/// # Errors
/// When it is not told what to do, or can't begin.
pub fn run_proxy() -> Result<u8, StartError> {
    let caller = owner::caller();
    let (mut order, descriptors) = caller.receive::<DetachedExec>()?;
    // Without a file the lines go to standard error, which is /dev/null by then.
    let log = Log::of_request(order.log.as_deref(), order.log_json, false);
    order.request.descriptors = descriptors;
    nix::unistd::setsid().map_err(|errno| step("make a session")(errno.into()))?;
    let signals = BlockedSignals::begin().map_err(step("hold signals back"))?;
    let terminal = match &order.console_socket {
        Some(socket) => Terminal::ConsoleSocket(socket),
        None => Terminal::None,
    };
    let session = match Session::begin(&order.socket, order.request, &terminal, signals) {
        Ok(session) => session,
        Err(err) => {
            let message = crate::log::error_line::chain(&err);
            caller.send(&Outcome::Failed { message }, &[])?;
            return Ok(255);
        }
    };
    std::env::set_current_dir("/").map_err(step("change to /"))?;
    // What the process writes to is open once more, and closed when it closes it.
    release_standard_streams().map_err(step("close standard streams"))?;
    caller.send(&Outcome::Created, &[])?;
    drop(caller);
    let late = if order.copies_late_output {
        // This process is in the container's cgroup, and so is what it starts.
        LateOutput::Copied(None)
    } else {
        LateOutput::Dropped
    };
    Ok(session.finish(late, &log).unwrap_or(KILLED))
}
