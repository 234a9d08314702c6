//! When and where a process runs: CPU policy, I/O priority, CPU affinity.
//!
//! Owns the checks that the kernel doesn't make, or whose errno is too unspecific. Their
//! texts are runc's.

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use oci_spec::runtime::{
    IOPriorityClass, LinuxIOPriority, LinuxSchedulerFlag, LinuxSchedulerPolicy, Process, Scheduler,
};

use crate::{
    failure::{Attempt, Failure},
    sys::{self, SchedulerAttributes},
};

/// Sets the policy and the I/O priority of `process` for this process.
///
/// # Errors
/// [`Failure::Refused`] for values that can't be; else the kernel's.
pub(crate) fn apply(process: &Process) -> Result<(), Failure> {
    if let Some(scheduler) = process.scheduler() {
        let attributes = attributes(scheduler)?;
        sys::set_scheduler(&attributes).step("error setting scheduler")?;
    }
    if let Some(priority) = process.io_priority() {
        let value = io_priority(priority)?;
        sys::set_io_priority(value).step("failed to set io priority")?;
    }
    Ok(())
}

/// Lets this process run on `cpus` only, a list such as `0-3,7`; without a list
/// nothing changes.
///
/// # Errors
/// [`Failure::Refused`] for a list without a CPU of this machine.
pub(crate) fn run_on(cpus: Option<&str>) -> Result<(), Failure> {
    let Some(list) = cpus.filter(|list| !list.is_empty()) else {
        return Ok(());
    };
    let refused =
        |why: &str| Failure::Refused(format!("process.execCPUAffinity: CPUs {list:?}: {why}"));
    let mut set = CpuSet::new();
    for range in list.split(',') {
        for cpu in parse_range(range).ok_or_else(|| refused("not a list of CPUs"))? {
            // The kernel ignores CPUs that it doesn't have.
            set.set(cpu).unwrap_or_default();
        }
    }
    sched_setaffinity(Pid::from_raw(0), &set)
        .map_err(|errno| refused(&crate::failure::Errno(errno).to_string()))
}

fn parse_range(range: &str) -> Option<std::ops::RangeInclusive<usize>> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last && last < MAX_CPUS).then_some(first..=last)
}

fn attributes(wanted: &Scheduler) -> Result<SchedulerAttributes, Failure> {
    use LinuxSchedulerPolicy as Policy;
    let refused = |text: String| Err(Failure::Refused(text));
    let policy = *wanted.policy();
    let (nice, priority) = (wanted.nice().unwrap_or(0), wanted.priority().unwrap_or(0));
    let times = [*wanted.runtime(), *wanted.deadline(), *wanted.period()];
    if matches!(policy, Policy::SchedOther | Policy::SchedBatch) && !(-20..=19).contains(&nice) {
        return refused(format!(
            "invalid scheduler.nice: {nice} when scheduler.policy is {policy}"
        ));
    }
    if priority != 0 && !matches!(policy, Policy::SchedFifo | Policy::SchedRr) {
        return refused(
            "scheduler.priority can only be specified for SchedFIFO or SchedRR policy".into(),
        );
    }
    let Ok(priority) = u32::try_from(priority) else {
        return refused(format!("invalid scheduler.priority: {priority}"));
    };
    let [runtime_ns, deadline_ns, period_ns] = times.map(|time| time.unwrap_or(0));
    if policy != Policy::SchedDeadline && runtime_ns + deadline_ns + period_ns != 0 {
        return refused(
            "scheduler runtime/deadline/period can only be specified for SchedDeadline policy"
                .into(),
        );
    }
    let flags = wanted.flags().iter().flatten().map(|flag| flag_bit(*flag));
    Ok(SchedulerAttributes {
        policy: policy_number(policy),
        flags: flags.fold(0, |all, flag| all | flag),
        nice,
        priority,
        runtime_ns,
        deadline_ns,
        period_ns,
    })
}

const fn policy_number(policy: LinuxSchedulerPolicy) -> u32 {
    match policy {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    }
}

const fn flag_bit(flag: LinuxSchedulerFlag) -> u64 {
    match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    }
}

/// linux/ioprio.h: three bits of class above thirteen of priority.
fn io_priority(wanted: &LinuxIOPriority) -> Result<u16, Failure> {
    let class = match wanted.class() {
        IOPriorityClass::IoprioClassRt => 1_u16,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match u16::try_from(wanted.priority()) {
        Ok(priority @ 0..=7) => Ok(class << 13 | priority),
        _ => Err(Failure::Refused(format!(
            "invalid ioPriority.Priority: {}",
            wanted.priority()
        ))),
    }
}

/// The CPUs that the C library's set can hold.
const MAX_CPUS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(json: &str) -> Scheduler {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_deadline_has_its_times_and_flags() {
        let wanted = wanted(
            r#"{"policy":"SCHED_DEADLINE","flags":["SCHED_FLAG_RECLAIM","SCHED_RESET_ON_FORK"],
                "runtime":1,"deadline":2,"period":3}"#,
        );
        let attributes = attributes(&wanted).unwrap();
        assert_eq!((attributes.policy, attributes.flags), (6, 3));
        let times = [
            attributes.runtime_ns,
            attributes.deadline_ns,
            attributes.period_ns,
        ];
        assert_eq!(times, [1, 2, 3]);
    }

    #[test]
    fn values_of_other_policies_are_refused_in_runcs_words() {
        for (json, text) in [
            (
                r#"{"policy":"SCHED_OTHER","nice":20}"#,
                "invalid scheduler.nice: 20 when scheduler.policy is SCHED_OTHER",
            ),
            (
                r#"{"policy":"SCHED_BATCH","priority":1}"#,
                "scheduler.priority can only be specified for SchedFIFO or SchedRR policy",
            ),
            (
                r#"{"policy":"SCHED_RR","priority":1,"period":7}"#,
                "scheduler runtime/deadline/period can only be specified for SchedDeadline policy",
            ),
        ] {
            assert_eq!(attributes(&wanted(json)).unwrap_err().line(), text);
        }
    }

    #[test]
    fn io_priorities_are_eight_in_each_class() {
        let of = |json: &str| io_priority(&serde_json::from_str(json).unwrap());
        let idle = of(r#"{"class":"IOPRIO_CLASS_IDLE","priority":0}"#);
        assert_eq!(idle.unwrap(), 3 << 13);
        let refused = of(r#"{"class":"IOPRIO_CLASS_RT","priority":8}"#).unwrap_err();
        assert_eq!(refused.line(), "invalid ioPriority.Priority: 8");
    }

    #[test]
    fn lists_of_cpus_are_numbers_and_ranges() {
        assert_eq!(parse_range("3"), Some(3..=3));
        assert_eq!(parse_range("0-2"), Some(0..=2));
        for bad in ["", "-", "2-1", "a", "0-4096"] {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
    }
}
