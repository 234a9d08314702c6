//! `sched_setattr(2)` and `ioprio_set(2)` of the calling process.
//!
//! Owns no policy: numbers come ready for the kernel.

use std::io;

/// What `sched_setattr` sets; see sched(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SchedulerAttributes {
    /// `SCHED_*`.
    pub(crate) policy: u32,
    /// `SCHED_FLAG_*`.
    pub(crate) flags: u64,
    /// -20 to 19, for ordinary processes.
    pub(crate) nice: i32,
    /// 1 to 99, for real-time ones.
    pub(crate) priority: u32,
    /// CPU time per period.
    pub(crate) runtime_ns: u64,
    /// Until when it is given, from the begin of each period.
    pub(crate) deadline_ns: u64,
    /// From one begin to the next.
    pub(crate) period_ns: u64,
}

/// Sets the scheduling of this process.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn set_scheduler(wanted: &SchedulerAttributes) -> io::Result<()> {
    let request = Request {
        size: REQUEST_SIZE,
        policy: wanted.policy,
        flags: wanted.flags,
        nice: wanted.nice,
        priority: wanted.priority,
        runtime_ns: wanted.runtime_ns,
        deadline_ns: wanted.deadline_ns,
        period_ns: wanted.period_ns,
    };
    // SAFETY: the request has the kernel's layout, carries its size and outlives
    // the call, which only reads it.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const request, NO_FLAGS) };
    succeeded(result)
}

/// Sets the I/O priority of this process, class and level in one number.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn set_io_priority(value: u16) -> io::Result<()> {
    // SAFETY: the call takes numbers only.
    let result = unsafe {
        libc::syscall(
            libc::SYS_ioprio_set,
            WHO_PROCESS,
            0,
            libc::c_int::from(value),
        )
    };
    succeeded(result)
}

fn succeeded(result: libc::c_long) -> io::Result<()> {
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// `struct sched_attr` of linux/sched/types.h, as far as version 0 of it goes.
#[repr(C)]
struct Request {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime_ns: u64,
    deadline_ns: u64,
    period_ns: u64,
}

/// Bytes of it: `SCHED_ATTR_SIZE_VER0`.
const REQUEST_SIZE: u32 = 48;
const _: () = assert!(size_of::<Request>() == 48, "the kernel's layout");
const NO_FLAGS: libc::c_uint = 0;
/// `IOPRIO_WHO_PROCESS` of linux/ioprio.h.
const WHO_PROCESS: libc::c_int = 1;
