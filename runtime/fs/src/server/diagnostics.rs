//! Log lines of this process and its libraries, to standard error, which the
//! owner reads. Nothing below a warning, and no more than anyone reads: some of
//! them are about what the guest does, as often as it likes.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::{LevelFilter, Log, Metadata, Record};

/// Lines in one `PERIOD`; the rest of it is silence.
const LINES: u32 = 8;
const PERIOD: Duration = Duration::from_secs(10);

struct StandardError {
    spent: Mutex<Option<Spent>>,
}

/// What was written in the present period.
struct Spent {
    since: Instant,
    lines: u32,
    dropped: u64,
}

impl StandardError {
    /// Whether a line may be written, and how many were dropped before it.
    fn may_write(&self, now: Instant) -> Option<u64> {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let dropped = match spent.as_mut() {
            Some(spent) if now.duration_since(spent.since) < PERIOD => {
                if spent.lines >= LINES {
                    spent.dropped += 1;
                    return None;
                }
                spent.lines += 1;
                return Some(0);
            }
            Some(spent) => spent.dropped,
            None => 0,
        };
        *spent = Some(Spent {
            since: now,
            lines: 1,
            dropped: 0,
        });
        Some(dropped)
    }
}

impl Log for StandardError {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        match self.may_write(Instant::now()) {
            None => {}
            Some(0) => eprintln!("{}", record.args()),
            Some(dropped) => eprintln!("{} (and {dropped} lines before)", record.args()),
        }
    }

    fn flush(&self) {}
}

static STANDARD_ERROR: StandardError = StandardError {
    spent: Mutex::new(None),
};

/// Sends warnings and errors to standard error from now on.
pub(super) fn to_standard_error() {
    // Fails only if there is a logger already, which then stays.
    if log::set_logger(&STANDARD_ERROR).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}

#[cfg(test)]
mod tests {
    use super::{LINES, PERIOD, StandardError};
    use std::sync::Mutex;
    use std::time::Instant;

    #[test]
    fn a_flood_is_a_few_lines_and_a_count() {
        let log = StandardError {
            spent: Mutex::new(None),
        };
        let start = Instant::now();
        let written = (0..1000).filter(|_| log.may_write(start).is_some());
        assert_eq!(written.count(), LINES as usize);
        assert_eq!(log.may_write(start + PERIOD), Some(u64::from(1000 - LINES)));
    }
}
