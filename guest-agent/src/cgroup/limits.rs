//! From `linux.resources` to the files of cgroup version 2.
//!
//! Owns the conversions, which are runc's. Writes nothing.

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use crate::failure::Failure;

/// One value for one file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Name inside the cgroup's folder.
    pub(crate) file: String,
    /// What to write.
    pub(crate) value: String,
}

/// The file that a kernel without swap doesn't have.
pub(crate) const SWAP_FILE: &str = "memory.swap.max";

/// Every setting, in the order in which it must be written.
///
/// # Errors
/// [`Failure::Refused`] for values that contradict each other.
pub(crate) fn settings(resources: &LinuxResources) -> Result<Vec<Setting>, Failure> {
    let mut settings = Vec::new();
    if let Some(memory) = resources.memory() {
        add_memory(&mut settings, memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        add_cpu(&mut settings, cpu);
    }
    if let Some(pids) = resources.pids()
        && pids.limit() != 0
    {
        add(&mut settings, "pids.max", limit(pids.limit()));
    }
    for huge in resources.hugepage_limits().iter().flatten() {
        let file = format!("hugetlb.{}.max", huge.page_size());
        add(&mut settings, &file, limit(huge.limit()));
    }
    for (file, value) in resources.unified().iter().flatten() {
        if file.contains('/') {
            return Err(Failure::Refused(format!(
                "linux.resources.unified: {file:?} is not a file name"
            )));
        }
        add(&mut settings, file, value.clone());
    }
    Ok(settings)
}

fn add(settings: &mut Vec<Setting>, file: &str, value: String) {
    settings.push(Setting {
        file: file.to_owned(),
        value,
    });
}

/// Negative means no limit.
fn limit(value: i64) -> String {
    if value < 0 {
        return "max".to_owned();
    }
    value.to_string()
}

fn add_memory(settings: &mut Vec<Setting>, memory: &LinuxMemory) -> Result<(), Failure> {
    let max = memory.limit().unwrap_or(0);
    if let Some(swap) = swap_only(memory.swap().unwrap_or(0), max)? {
        add(settings, SWAP_FILE, limit(swap));
    }
    if max != 0 {
        add(settings, "memory.max", limit(max));
    }
    if let Some(low) = memory.reservation().filter(|&low| low != 0) {
        add(settings, "memory.low", limit(low));
    }
    Ok(())
}

/// Version 1 (and so the configuration) counts memory and swap together.
fn swap_only(memory_and_swap: i64, memory: i64) -> Result<Option<i64>, Failure> {
    let refused = |why: &str| {
        Err(Failure::Refused(format!(
            "linux.resources.memory.swap: {why}"
        )))
    };
    match (memory_and_swap, memory) {
        // Memory without limit, swap not mentioned: without limit too.
        (0, -1) => Ok(Some(-1)),
        (0, _) => Ok(None),
        (-1, _) => Ok(Some(-1)),
        (_, 0 | -1) => refused("a limit of swap needs a limit of memory"),
        (both, memory) if both < memory => refused("less than the limit of memory"),
        (both, memory) => Ok(Some(both - memory)),
    }
}

fn add_cpu(settings: &mut Vec<Setting>, cpu: &LinuxCpu) {
    if let Some(idle) = cpu.idle() {
        add(settings, "cpu.idle", idle.to_string());
    }
    // An idle group has no weight.
    let shares = cpu.shares().filter(|_| cpu.idle() != Some(1)).unwrap_or(0);
    if shares != 0 {
        add(settings, "cpu.weight", weight(shares).to_string());
    }
    let (quota, period) = (cpu.quota().unwrap_or(0), cpu.period().unwrap_or(0));
    if quota != 0 || period != 0 {
        let quota = if quota > 0 {
            quota.to_string()
        } else {
            "max".to_owned()
        };
        let period = if period == 0 {
            DEFAULT_PERIOD_US
        } else {
            period
        };
        add(settings, "cpu.max", format!("{quota} {period}"));
    }
    if let Some(burst) = cpu.burst() {
        add(settings, "cpu.max.burst", burst.to_string());
    }
    for (file, list) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
            add(settings, file, list.to_owned());
        }
    }
}

/// From shares (2 to 262144, default 1024) to weight (1 to 10000, default 100),
/// by the curve on which both defaults and both ends lie.
fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => return 1,
        262_144.. => return 10_000,
        _ => {}
    }
    // In range, so neither conversion loses anything.
    let log2 = f64::from(u32::try_from(shares).unwrap_or(u32::MAX)).log2();
    let exponent = log2.mul_add(log2, 125.0 * log2) / 612.0 - 7.0 / 34.0;
    let weight = 10_f64.powf(exponent).ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and 10000 for shares in range"
    )]
    let weight = weight as u64;
    weight
}

const DEFAULT_PERIOD_US: u64 = 100_000;

#[cfg(test)]
#[path = "limits_test.rs"]
mod tests;
