//! What a cgroup has now, where a new value depends on it.
//!
//! Owns the reading; what follows from it is decided in `limits`. The kernel's
//! files are the only memory of limits there is, so that updates see each other.

use std::{fs, path::Path};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Present {
    /// Bytes; -1 without limit.
    pub(crate) memory_max: i64,
    /// Bytes in use.
    pub(crate) memory_current: u64,
    /// Microseconds of each period; none without limit.
    pub(crate) cpu_quota_us: Option<u64>,
    /// Microseconds.
    pub(crate) cpu_period_us: u64,
    /// The BFQ scheduler weighs devices.
    pub(crate) has_bfq: bool,
}

impl Default for Present {
    /// A cgroup that was just made.
    fn default() -> Self {
        Self {
            memory_max: -1,
            memory_current: 0,
            cpu_quota_us: None,
            cpu_period_us: 100_000,
            has_bfq: false,
        }
    }
}

impl Present {
    /// Reads the cgroup whose folder this is. What can't be read is as in a new one.
    #[must_use]
    pub(crate) fn read(folder: &Path) -> Self {
        let text = |file: &str| fs::read_to_string(folder.join(file)).unwrap_or_default();
        let new = Self::default();
        let cpu_max = text("cpu.max");
        let (quota, period) = cpu_max.trim().split_once(' ').unwrap_or_default();
        Self {
            memory_max: number(&text("memory.max")).unwrap_or(new.memory_max),
            memory_current: number(&text("memory.current")).unwrap_or(new.memory_current),
            cpu_quota_us: number(quota),
            cpu_period_us: number(period).unwrap_or(new.cpu_period_us),
            has_bfq: folder.join("io.bfq.weight").exists(),
        }
    }
}

/// `None` for "max" and for no text.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.trim().parse().ok()
}
