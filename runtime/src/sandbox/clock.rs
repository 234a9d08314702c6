//! Keeps the guest's wall clock with the host's.
//!
//! Owns when the guest is told the time: it has a clock of its own, which knows nothing
//! of a host that is set, corrected or suspended.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};

use super::agent::Agent;
use super::error::{Error, step};
use super::thread;

/// Between two corrections where the host's clock is not set: two good clocks drift
/// apart by less than a tenth of a second in it.
const PERIOD: Duration = Duration::from_mins(10);

/// Tells the guest the time for as long as there is one.
pub(crate) fn follow(agent: Agent) -> Result<(), Error> {
    let failed = step("watch the host's clock");
    let flags = TimerfdFlags::CLOEXEC;
    let timer =
        timerfd_create(TimerfdClockId::Realtime, flags).map_err(|err| failed(err.into()))?;
    thread::spawn("clock", 64, move || {
        while wait(&timer, PERIOD).is_ok() {
            // One that does not hear of it now may the next time.
            agent.tell_time().ok();
        }
    })
}

/// Until the period is over, or the clock was set.
fn wait(timer: &OwnedFd, period: Duration) -> io::Result<()> {
    let now = clock_gettime(ClockId::Realtime);
    let seconds = i64::try_from(period.as_secs()).map_err(io::Error::other)?;
    let due = Itimerspec {
        it_interval: Timespec::default(),
        it_value: Timespec {
            tv_sec: now.tv_sec.saturating_add(seconds),
            tv_nsec: now.tv_nsec,
        },
    };
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    timerfd_settime(timer, flags, &due)?;
    match rustix::io::read(timer, &mut [0; 8]) {
        // That is how it is told that the clock was set.
        Ok(_) | Err(rustix::io::Errno::CANCELED | rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_ends() {
        let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC).unwrap();
        wait(&timer, Duration::from_secs(0)).unwrap();
        wait(&timer, Duration::from_secs(1)).unwrap();
    }
}
