//! The current state of a cgroup, as far as new values depend on it.
//!
//! Owns the reading; `limits` decides by it. Limits are recorded in the kernel's files
//! alone, so that updates see each other.

use std::{fs, path::Path};

/// Current limits and use of a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CgroupState {
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

impl Default for CgroupState {
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

impl CgroupState {
    /// Reads the cgroup whose directory this is. What can't be read is as in a new one.
    #[must_use]
    pub(crate) fn read(directory: &Path) -> Self {
        let text = |file: &str| fs::read_to_string(directory.join(file)).unwrap_or_default();
        let new = Self::default();
        let cpu_max = text("cpu.max");
        let (quota, period) = cpu_max.trim().split_once(' ').unwrap_or_default();
        Self {
            memory_max: number(&text("memory.max")).unwrap_or(new.memory_max),
            memory_current: number(&text("memory.current")).unwrap_or(new.memory_current),
            cpu_quota_us: number(quota),
            cpu_period_us: number(period).unwrap_or(new.cpu_period_us),
            has_bfq: directory.join("io.bfq.weight").exists(),
        }
    }
}

/// `None` for "max" and for no text.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.trim().parse().ok()
}
