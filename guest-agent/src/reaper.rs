//! Waiting for every child: processes of containers, those between the agent and
//! a program, and orphans, which all belong to PID 1.
//!
//! Owns the only wait of the agent, so no exit is taken by anyone else.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::unistd::Pid;
use rustix::process::{WaitOptions, wait};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    failure::{Attempt, Failure},
    guest::Guest,
    process::{Exit, exit_status},
};

/// Registers for the end of children; from then on none is missed.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn children_ended() -> Result<Signal, Failure> {
    signal(SignalKind::child()).doing("watch for the end of children")
}

/// Records exits for as long as the agent lives.
pub(crate) async fn run(guest: &Guest, mut ended: Signal) {
    while ended.recv().await.is_some() {
        reap(guest);
    }
}

/// Records every exit that has happened.
pub(crate) fn reap(guest: &Guest) {
    // One signal may stand for many ends, and for ends of threads' children.
    let options = WaitOptions::NOHANG | WaitOptions::from_bits_retain(ALL_KINDS);
    while let Ok(Some((pid, status))) = wait(options) {
        if let Some(status) = exit_status(status.exit_status(), status.terminating_signal()) {
            let exit = Exit {
                status,
                unix_ns: unix_now_ns(),
            };
            guest.record_exit(Pid::from_raw(pid.as_raw_pid()), exit);
        }
    }
}

fn unix_now_ns() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

/// `__WALL`
const ALL_KINDS: u32 = 0x4000_0000;
