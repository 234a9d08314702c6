//! How often something that may happen at any rate is told.
//!
//! Owns the reckoning alone: the first is told at once, what follows within a period
//! is counted. Who tells what, and the time, are the caller's.

use std::time::{Duration, Instant};

/// Between two lines, or events, of one kind that a guest can cause.
pub const PERIOD: Duration = Duration::from_secs(1);

/// At most one of a kind in each [`PERIOD`], and a number at once after quiet times.
#[derive(Debug, Clone, Default)]
pub struct RateLimit {
    last: Option<Instant>,
    dropped: u64,
    /// How many are told beside the one of a period; each quiet period gives one back.
    spare: u32,
    burst: u32,
}

impl RateLimit {
    /// Of so many at once, beside the one of a period.
    #[must_use]
    pub fn with_burst(burst: u32) -> Self {
        Self {
            spare: burst,
            burst,
            ..Self::default()
        }
    }

    /// Whether what has happened at `now` is told; the answer then is how many before
    /// it were not. Without an answer it is one of those.
    pub fn pass(&mut self, now: Instant) -> Option<u64> {
        let passed = self.last.map(|last| now.saturating_duration_since(last));
        match passed {
            Some(passed) if passed < PERIOD => match self.spare.checked_sub(1) {
                Some(left) => self.spare = left,
                None => {
                    self.dropped = self.dropped.saturating_add(1);
                    return None;
                }
            },
            passed => {
                let quiet = passed.map_or(0, |passed| passed.as_secs() / PERIOD.as_secs());
                let quiet = u32::try_from(quiet.saturating_sub(1)).unwrap_or(u32::MAX);
                self.spare = self.spare.saturating_add(quiet).min(self.burst);
                self.last = Some(now);
            }
        }
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

    #[test]
    fn a_burst_is_told_whole_and_again_after_quiet_periods() {
        let mut limit = RateLimit::with_burst(3);
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let told = |limit: &mut RateLimit, from| {
            let told = (from..from + 10).filter(|ms| limit.pass(at(*ms)).is_some());
            told.count()
        };
        assert_eq!(told(&mut limit, 0), 4);
        assert_eq!(told(&mut limit, 1000), 1);
        assert_eq!(told(&mut limit, 4000), 3);
        assert_eq!(told(&mut limit, 100_000), 4);
    }
}
