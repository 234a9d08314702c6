//! A rate limit for the reporting of events that a guest can cause at any rate.
//!
//! Owns the count alone: the first event passes at once, those that follow within a
//! period are counted. The caller has the events and the time.

use std::time::{Duration, Instant};

/// Between two log lines, or events, of one kind.
pub const PERIOD: Duration = Duration::from_secs(1);

/// Passes one event in each [`PERIOD`], and a burst after quiet periods.
#[derive(Debug, Clone, Default)]
pub struct RateLimit {
    last: Option<Instant>,
    dropped: u64,
    /// Events that pass beside the one of a period; each quiet period gives one back.
    spare: u32,
    burst: u32,
}

impl RateLimit {
    /// A limit that passes a burst of so many events, beside the one of a period.
    #[must_use]
    pub fn with_burst(burst: u32) -> Self {
        Self {
            spare: burst,
            burst,
            ..Self::default()
        }
    }

    /// Whether an event at `now` passes. Returns the number of those dropped since the last
    /// one that passed; `None` where this one is dropped too.
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

    /// Returns the number of events dropped since the last that passed, and resets it.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_passes_at_once_and_of_a_flood_one_in_a_period_with_its_count() {
        let mut limit = RateLimit::default();
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        assert_eq!(limit.pass(at(0)), Some(0));
        let passed: Vec<u64> = (1..3000).filter_map(|ms| limit.pass(at(ms))).collect();
        assert_eq!(passed, [999, 999]);
        assert_eq!(limit.take_dropped(), 999);
        assert_eq!(limit.pass(at(10_000)), Some(0));
    }

    #[test]
    fn a_burst_passes_whole_and_again_after_quiet_periods() {
        let mut limit = RateLimit::with_burst(3);
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let passed = |limit: &mut RateLimit, from| {
            let passed = (from..from + 10).filter(|ms| limit.pass(at(*ms)).is_some());
            passed.count()
        };
        assert_eq!(passed(&mut limit, 0), 4);
        assert_eq!(passed(&mut limit, 1000), 1);
        assert_eq!(passed(&mut limit, 4000), 3);
        assert_eq!(passed(&mut limit, 100_000), 4);
    }
}
