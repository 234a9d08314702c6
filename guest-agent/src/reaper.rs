//! Waiting for every child: processes of containers, those between the agent and
//! a program, and orphans, which all belong to PID 1.
//!
//! Owns the only wait of the agent, so that no exit is lost to another one. Does not
//! record exits.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::unistd::Pid;
use rustix::process::{WaitOptions, wait};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    failure::{Attempt, Failure},
    process::{Exit, exit_status},
};

/// Registers for the end of children; from then on none is missed.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn children_ended() -> Result<Signal, Failure> {
    signal(SignalKind::child()).step("watch for the end of children")
}

/// A child that has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reaped {
    pub(crate) pid: Pid,
    pub(crate) exit: Exit,
}

/// Waits for each child that has ended, and doesn't block. One SIGCHLD may be for many
/// of them, and for children of threads.
pub(crate) fn reap() -> impl Iterator<Item = Reaped> {
    let options = WaitOptions::NOHANG | WaitOptions::from_bits_retain(ALL_KINDS);
    let next = move || wait(options).ok().flatten();
    std::iter::from_fn(next).filter_map(|(pid, status)| {
        let status = exit_status(status.exit_status(), status.terminating_signal())?;
        let exit = Exit {
            status,
            unix_ns: unix_now_ns(),
        };
        Some(Reaped {
            pid: Pid::from_raw(pid.as_raw_pid()),
            exit,
        })
    })
}

fn unix_now_ns() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

/// `__WALL`
const ALL_KINDS: u32 = 0x4000_0000;
