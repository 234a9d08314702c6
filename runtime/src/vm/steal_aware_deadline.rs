//! How long a machine may take to come up.
//!
//! Owns the reckoning: only time in which the machine could have run counts. On a
//! host where fifty are started at once each of them waits for a processor most of
//! the time, and is not at fault.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Time that is left for a machine made of certain processes.
#[derive(Debug)]
pub(crate) struct StealAwareDeadline {
    limit: Duration,
    at_most: Duration,
    begun: Instant,
    pids: Vec<u32>,
}

impl StealAwareDeadline {
    /// From now on `limit`, not counting what its processes wait for a processor, but
    /// with that no more than `at_most`: threads may be held up at the same time, so
    /// that the sum of it can be more than the time that has passed, and a guest can
    /// have more threads than there are processors.
    pub(crate) fn begin(limit: Duration, at_most: Duration, pids: Vec<u32>) -> Self {
        Self {
            limit,
            at_most,
            begun: Instant::now(),
            pids,
        }
    }

    /// All that was allowed.
    pub(crate) const fn limit(&self) -> Duration {
        self.limit
    }

    /// What is left; none when it is over.
    pub(crate) fn left(&self) -> Option<Duration> {
        let elapsed = self.begun.elapsed();
        let held_up = self.pids.iter().map(|pid| held_up(*pid)).sum();
        let used = elapsed.saturating_sub(held_up);
        let left = self.limit.checked_sub(used)?;
        let left = left.min(self.at_most.checked_sub(elapsed)?);
        (!left.is_zero()).then_some(left)
    }
}

/// How long the threads of a process have been ready to run without a processor
/// (proc(5), schedstat); zero where the kernel doesn't tell. They wait for each other,
/// so that what one was held up held the others up too.
fn held_up(pid: u32) -> Duration {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Duration::ZERO;
    };
    let waits = threads.flatten().filter_map(|task| waited(&task.path()));
    waits.sum()
}

fn waited(task: &Path) -> Option<Duration> {
    let numbers = fs::read_to_string(task.join("schedstat")).ok()?;
    let nanoseconds = numbers.split_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_ends() {
        let limit = Duration::from_secs(600);
        let deadline = StealAwareDeadline::begin(limit, limit, vec![std::process::id()]);
        assert!(deadline.left().is_some_and(|left| left <= limit));
        for (limit, at_most) in [(Duration::ZERO, limit), (limit, Duration::ZERO)] {
            assert_eq!(
                StealAwareDeadline::begin(limit, at_most, Vec::new()).left(),
                None
            );
        }
    }
}
