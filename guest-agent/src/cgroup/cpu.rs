//! The processor's part of `linux.resources`.
//!
//! Owns the values of `cpu.*` and `cpuset.*` files. Numbers of CPUs and of memory
//! nodes are the guest's.

use caisson_protocol::cgroup::cpu_weight;
use oci_spec::runtime::LinuxCpu;

use super::{
    setting::{Setting, add as setting},
    state::CgroupState,
};

/// Adds the settings, in the order in which they must be written.
pub(super) fn add(settings: &mut Vec<Setting>, cpu: &LinuxCpu, state: &CgroupState) {
    if let Some(idle) = cpu.idle() {
        setting(settings, "cpu.idle", idle.to_string());
    }
    // An idle group has no weight.
    let shares = cpu.shares().filter(|_| cpu.idle() != Some(1)).unwrap_or(0);
    if shares != 0 {
        setting(settings, "cpu.weight", cpu_weight(shares).to_string());
    }
    add_bandwidth(settings, cpu, state);
    for (file, list) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
            setting(settings, file, list.to_owned());
        }
    }
}

/// A quota or period that isn't mentioned stays as it is. The kernel
/// wants the burst within the quota at any time, so the order depends on both.
fn add_bandwidth(settings: &mut Vec<Setting>, cpu: &LinuxCpu, state: &CgroupState) {
    let burst = cpu.burst().map(|burst| burst.to_string());
    let fits_now = state
        .cpu_quota_us
        .is_none_or(|quota| cpu.burst().is_none_or(|burst| burst <= quota));
    if let Some(burst) = burst.clone().filter(|_| fits_now) {
        setting(settings, "cpu.max.burst", burst);
    }
    let (quota, period) = (cpu.quota().unwrap_or(0), cpu.period().unwrap_or(0));
    if quota != 0 || period != 0 {
        let quota = match quota {
            0 => state.cpu_quota_us,
            _ => u64::try_from(quota).ok(),
        };
        let quota = quota.map_or_else(|| "max".to_owned(), |quota| quota.to_string());
        let period = if period == 0 {
            state.cpu_period_us
        } else {
            period
        };
        setting(settings, "cpu.max", format!("{quota} {period}"));
    }
    if let Some(burst) = burst.filter(|_| !fits_now) {
        setting(settings, "cpu.max.burst", burst);
    }
}

#[cfg(test)]
#[path = "cpu_test.rs"]
mod tests;
