//! That a container which is killed ends, whatever its guest does.
//!
//! Owns the wait between the two. It is the guest's agent that kills, and a guest that
//! hangs, or that somebody has taken over, need not, or says that it has and goes on:
//! what counts is the end of what holds the container, and without it the machine is
//! ended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::process::program::ProcessKiller;
use crate::process::thread;
use crate::vm::steal_aware_deadline::StealAwareDeadline;

/// A large container is not gone at once.
const KILL_LIMIT: Duration = Duration::from_secs(30);
/// The same when its processes wait for a processor, which a guest can arrange for.
const KILL_LIMIT_AT_MOST: Duration = Duration::from_secs(35);

/// What ends a machine whose guest does not end what was killed. Clones share what has become of the machine.
#[derive(Debug, Clone)]
pub(crate) struct KillEscalation {
    machine: Arc<Vec<Arc<ProcessKiller>>>,
    reason: Arc<OnceLock<String>>,
}

impl KillEscalation {
    /// For a machine made of these processes.
    pub(crate) fn new(machine: Vec<Arc<ProcessKiller>>) -> Self {
        Self {
            machine: Arc::new(machine),
            reason: Arc::default(),
        }
    }

    /// Ends the machine unless `ends` comes true, which waits as long as it is told.
    /// Once `armed`, further calls do nothing.
    pub(crate) fn begin(
        &self,
        armed: &AtomicBool,
        ends: impl Fn(Duration) -> bool + Send + 'static,
    ) {
        if armed.swap(true, Ordering::Relaxed) {
            return;
        }
        let kill_escalation = self.clone();
        let pids = self.machine.iter().map(|process| process.pid()).collect();
        let work = move || {
            let deadline = StealAwareDeadline::begin(KILL_LIMIT, KILL_LIMIT_AT_MOST, pids);
            let mut rounds = std::iter::from_fn(|| deadline.left());
            if !rounds.any(ends) {
                let limit = KILL_LIMIT.as_secs();
                kill_escalation.end_machine(format!(
                    "the guest had not ended it {limit} s after SIGKILL, so its machine was ended"
                ));
            }
        };
        if thread::spawn("insistence", 64, work).is_err() {
            // Without a thread, the next who kills it tries again.
            armed.store(false, Ordering::Relaxed);
        }
    }

    /// Ends the machine now, for this reason. Its end is told like any other.
    pub(crate) fn end_machine(&self, reason: String) {
        // The first one is the cause.
        self.reason.set(reason).ok();
        self.machine.iter().for_each(|process| process.kill());
    }

    /// Why the machine was ended, if it was here.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }
}
