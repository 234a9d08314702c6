//! How often something that may happen at any rate is told.
//!
//! Owns the reckoning alone: the first is told at once, what follows within a period
//! is counted. Who tells what, and the time, are the caller's.

use std::time::{Duration, Instant};

/// Between two lines, or events, of one kind that a guest can cause.
pub const PERIOD: Duration = Duration::from_secs(1);

/// At most one of a kind in each [`PERIOD`].
#[derive(Debug, Clone, Default)]
pub struct RateLimit {
    last: Option<Instant>,
    dropped: u64,
}

impl RateLimit {
    /// Whether what has happened at `now` is told; the answer then is how many before
    /// it were not. Without an answer it is one of those.
    pub fn pass(&mut self, now: Instant) -> Option<u64> {
        let early = |last: Instant| now.saturating_duration_since(last) < PERIOD;
        if self.last.is_some_and(early) {
            self.dropped = self.dropped.saturating_add(1);
            return None;
        }
        self.last = Some(now);
        Some(self.take_dropped())
    }

    /// How many were not told since the last that was; they count as told from now on.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_a_flood_once_in_a_period_with_its_count() {
        let mut limit = RateLimit::default();
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        assert_eq!(limit.pass(at(0)), Some(0));
        let told: Vec<u64> = (1..3000).filter_map(|ms| limit.pass(at(ms))).collect();
        assert_eq!(told, [999, 999]);
        assert_eq!(limit.take_dropped(), 999);
        assert_eq!(limit.pass(at(10_000)), Some(0));
    }
}
