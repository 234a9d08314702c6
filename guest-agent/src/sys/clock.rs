//! `adjtimex(2)`: changes of the wall clock by a difference.
//!
//! Owns no policy: whether a difference is one to step or to slew is decided by the host.

use std::io;

/// Changes the clock at once.
///
/// # Errors
/// The kernel's refusal, as for a time before the epoch.
pub(crate) fn step_clock(by_ns: i64) -> io::Result<()> {
    let mut change = no_change();
    change.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
    change.time.tv_sec = by_ns.div_euclid(NS_PER_S);
    // With ADJ_NANO these are nanoseconds.
    change.time.tv_usec = by_ns.rem_euclid(NS_PER_S);
    adjust(&mut change)
}

/// Has the clock run half a millisecond in a second faster or slower, until it has
/// gained that much. What is left of an earlier call is dropped.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn slew_clock(by_ns: i64) -> io::Result<()> {
    let mut change = no_change();
    change.modes = libc::ADJ_OFFSET_SINGLESHOT;
    change.offset = by_ns / NS_PER_US;
    adjust(&mut change)
}

fn no_change() -> libc::timex {
    // SAFETY: the structure is of integers only, for which all bits may be 0.
    unsafe { std::mem::zeroed() }
}

fn adjust(change: &mut libc::timex) -> io::Result<()> {
    // SAFETY: the kernel reads and writes one such structure at the address.
    let result = unsafe { libc::adjtimex(change) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

const NS_PER_S: i64 = 1_000_000_000;
const NS_PER_US: i64 = 1000;
