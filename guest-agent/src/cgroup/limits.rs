//! From `linux.resources` to the files of cgroup version 2.
//!
//! Owns the conversions, which are runc's, and their order; `cpu` and `io` hold
//! those of their controllers. Writes nothing.

use oci_spec::runtime::{LinuxMemory, LinuxResources};

use super::{
    cpu, io,
    setting::{Origin, Setting, add},
    state::CgroupState,
};
use crate::failure::Failure;

/// How many tasks there may be.
#[must_use]
pub(crate) fn tasks(resources: &LinuxResources) -> Option<Setting> {
    let wanted = resources.pids().as_ref()?.limit();
    // As runc: a limit of 0 would keep the container's init out, so it is 1.
    let value = if wanted == 0 { 1 } else { wanted };
    Some(Setting {
        file: "pids.max".to_owned(),
        value: limit(value),
        origin: Origin::Member,
    })
}

/// Every other setting, in the order in which it must be written.
///
/// # Errors
/// [`Failure::Refused`] for values that contradict each other, or what is there.
pub(crate) fn settings(
    resources: &LinuxResources,
    state: &CgroupState,
) -> Result<Vec<Setting>, Failure> {
    let mut settings = Vec::new();
    if let Some(memory) = resources.memory() {
        add_memory(&mut settings, memory, state)?;
    }
    if let Some(block) = resources.block_io() {
        io::add(&mut settings, block, state);
    }
    if let Some(cpu) = resources.cpu() {
        cpu::add(&mut settings, cpu, state);
    }
    for huge in resources.hugepage_limits().iter().flatten() {
        for kind in ["max", "rsvd.max"] {
            let file = format!("hugetlb.{}.{kind}", huge.page_size());
            add(&mut settings, &file, limit(huge.limit()));
        }
    }
    for (file, value) in resources.unified().iter().flatten() {
        add_unified(&mut settings, file, value)?;
    }
    Ok(settings)
}

/// Each line is a write of its own, as files with a value per device want it.
fn add_unified(settings: &mut Vec<Setting>, file: &str, value: &str) -> Result<(), Failure> {
    if file.contains('/') {
        return Err(Failure::Refused(format!(
            "unified resource {file:?} must be a file name (no slashes)"
        )));
    }
    settings.extend(value.lines().map(|line| Setting {
        file: file.to_owned(),
        value: line.to_owned(),
        origin: Origin::Unified,
    }));
    Ok(())
}

/// Negative means no limit.
fn limit(value: i64) -> String {
    if value < 0 {
        return "max".to_owned();
    }
    value.to_string()
}

fn add_memory(
    settings: &mut Vec<Setting>,
    memory: &LinuxMemory,
    state: &CgroupState,
) -> Result<(), Failure> {
    let (max, both) = (memory.limit().unwrap_or(0), memory.swap().unwrap_or(0));
    if memory.check_before_update() == Some(true) {
        check_use("memory+swap limit", both, state)?;
        check_use("memory limit", max, state)?;
    }
    if memory
        .swappiness()
        .is_some_and(|swappiness| swappiness > 100)
    {
        return Err(Failure::Refused(
            "linux.resources.memory.swappiness: from 0 to 100".to_owned(),
        ));
    }
    // Swap alone is counted on top of the memory that is allowed already.
    let below_swap = if max == 0 && both != 0 {
        state.memory_max
    } else {
        max
    };
    if let Some(swap) = swap_only(both, below_swap)? {
        settings.push(Setting {
            file: "memory.swap.max".to_owned(),
            value: limit(swap),
            origin: Origin::MemberWhereNeeded,
        });
    }
    if max != 0 {
        add(settings, "memory.max", limit(max));
    }
    if let Some(low) = memory.reservation().filter(|&low| low != 0) {
        add(settings, "memory.low", limit(low));
    }
    Ok(())
}

fn check_use(what: &str, limit: i64, state: &CgroupState) -> Result<(), Failure> {
    let used = state.memory_current;
    match u64::try_from(limit) {
        Ok(bytes) if bytes > 0 && bytes <= used => Err(Failure::Refused(format!(
            "rejecting {what} {bytes} <= usage {used}"
        ))),
        _ => Ok(()),
    }
}

/// Version 1 (and so the configuration) counts memory and swap together.
fn swap_only(memory_and_swap: i64, memory: i64) -> Result<Option<i64>, Failure> {
    let refused = |why: &str| Err(Failure::Refused(why.to_owned()));
    match (memory_and_swap, memory) {
        // Memory without limit, swap not mentioned: without limit too.
        (0, -1) => Ok(Some(-1)),
        (0, _) => Ok(None),
        (-1, _) => Ok(Some(-1)),
        (_, 0 | -1) => refused("unable to set swap limit without memory limit"),
        (both, memory) if both < memory => refused("memory+swap limit should be >= memory limit"),
        (both, memory) => Ok(Some(both - memory)),
    }
}

#[cfg(test)]
#[path = "limits_test.rs"]
mod tests;
