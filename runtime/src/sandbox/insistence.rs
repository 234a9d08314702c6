//! That a container which is killed ends, whatever its guest does.
//!
//! Owns the wait between the two. It is the guest's agent that kills, and a guest that
//! hangs, or that somebody has taken over, need not: then its machine is ended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::monitor::Event;
use super::patience::Patience;
use super::thread;

/// A large container is not gone at once.
const KILL_LIMIT: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Insistence {
    tell: Sender<Event>,
    /// Of the machine.
    pids: Vec<u32>,
}

impl Insistence {
    pub(crate) const fn new(tell: Sender<Event>, pids: Vec<u32>) -> Self {
        Self { tell, pids }
    }

    /// Has the machine ended unless `ends` comes true, which waits as long as it is told.
    /// Once `armed`, further calls do nothing.
    pub(super) fn begin(
        &self,
        armed: &AtomicBool,
        ends: impl Fn(Duration) -> bool + Send + 'static,
    ) {
        if armed.swap(true, Ordering::Relaxed) {
            return;
        }
        let Self { tell, pids } = self.clone();
        let work = move || {
            let patience = Patience::begin(KILL_LIMIT, pids);
            let mut rounds = std::iter::from_fn(|| patience.left());
            if !rounds.any(ends) {
                tell.send(Event::Undying).ok();
            }
        };
        if thread::spawn("insistence", 64, work).is_err() {
            // Without a thread, the next who kills it tries again.
            armed.store(false, Ordering::Relaxed);
        }
    }
}

/// What is told of a container whose machine was ended.
pub(super) fn reason() -> String {
    let limit = KILL_LIMIT.as_secs();
    format!("the guest had not ended it {limit} s after SIGKILL, so its machine was ended")
}
