//! A process that stands for one more in a container, after whoever wanted it
//! has gone on: its pid is the exec's, its end has the exec's status.
//!
//! Owns both sides of its start. What it does then is `session`'s.

use std::os::fd::AsRawFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cgroup::Group;
use crate::container::left_behind::{Error, Start, StartError};
use crate::container::session::{ExecSpec, LateOutput, Session, Terminal};
use crate::container::signals::BlockedSignals;
use crate::container::stdio::release_standard_streams;
use crate::log::Log;
use crate::monitor::Outcome;
use crate::owner;
use crate::owner::{KILLED, OwnerChild, SpawnOptions};
use crate::process::step;

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

impl DetachedExec {
    /// Starts it. When this returns, the process in the guest runs.
    ///
    /// # Errors
    /// With the guest's own text if it could not be executed.
    pub fn leave_behind(&self, around: &SpawnOptions) -> Result<OwnerChild, Error> {
        let words = owner::command_line(&self.request.process);
        // Its first word may look like a flag.
        let title = ["--"].into_iter().chain(words);
        let descriptors = self.request.descriptors.iter();
        let numbers: Vec<_> = descriptors.map(AsRawFd::as_raw_fd).collect();
        let start = Start {
            verb: "exec-owner",
            name: "the exec's owner",
            around,
            group: self.cgroup.as_ref(),
        };
        start.leave(title, self, &numbers)
    }
}

/// Lives as such a process, and returns its exit status.
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
