//! Keeps the guest's wall clock with the host's.
//!
//! Owns when the guest's clock is read, and what follows from a reading: the guest has a
//! clock of its own, which knows nothing of a host that is set, corrected or suspended,
//! and which an emulated machine counts badly. A small difference is slewed, since
//! programs don't like time to jump. How the guest does it is the agent's.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};

use crate::process::step;
use crate::process::thread;
use crate::vm::agent;
use crate::vm::agent::Agent;
use crate::vm::error::Error;

/// Between two readings while the clocks differ, and at the beginning.
const SHORTEST: Duration = Duration::from_secs(30);
/// Between two readings of clocks that agree, as long as the host's is not set.
const LONGEST: Duration = Duration::from_mins(10);
/// So far apart, two clocks agree.
const TOLERANCE: Duration = Duration::from_millis(5);
/// So far apart, slewing takes more than a quarter of an hour.
const GREATEST_SLEW: Duration = Duration::from_millis(500);

/// How the guest's clock was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    /// What the guest's clock lacks of the host's, taken for the middle of the call.
    behind_ns: i64,
    /// How long the call took: half of it is how wrong that may be.
    round_trip: Duration,
}

/// What is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Correction {
    Nothing,
    Slew(i64),
    Step(i64),
}

/// Keeps the guest's clock right for as long as there is a guest.
pub(crate) fn follow(agent: Agent) -> Result<(), Error> {
    let failed = step("watch the host's clock");
    let flags = TimerfdFlags::CLOEXEC;
    let timer =
        timerfd_create(TimerfdClockId::Realtime, flags).map_err(|err| failed(err.into()))?;
    thread::spawn("clock", 64, move || {
        let mut period = SHORTEST;
        while wait(&timer, period).is_ok() {
            // A guest that can't be asked now may be the next time.
            period = correct(&agent, period).unwrap_or(SHORTEST);
        }
    })
    .map_err(Into::into)
}

/// Reads the guest's clock and corrects it; returns when it is to be read again.
fn correct(agent: &Agent, period: Duration) -> Result<Duration, agent::Error> {
    let (correction, next) = decide(read(agent)?, period);
    match correction {
        Correction::Nothing => {}
        Correction::Slew(by_ns) => drop(agent.adjust_clock(by_ns, true)?),
        Correction::Step(by_ns) => drop(agent.adjust_clock(by_ns, false)?),
    }
    Ok(next)
}

fn read(agent: &Agent) -> Result<Reading, agent::Error> {
    let (begun, begun_at) = (Instant::now(), SystemTime::now());
    let guests_ns = agent.adjust_clock(0, false)?;
    let round_trip = begun.elapsed();
    let middle = (begun_at + round_trip / 2).duration_since(UNIX_EPOCH);
    let hosts_ns = i128::try_from(middle.unwrap_or_default().as_nanos()).unwrap_or(i128::MAX);
    let behind_ns = hosts_ns.saturating_sub(i128::from(guests_ns));
    Ok(Reading {
        behind_ns: i64::try_from(behind_ns).unwrap_or(if behind_ns < 0 {
            i64::MIN
        } else {
            i64::MAX
        }),
        round_trip,
    })
}

/// What a reading leads to, and after which time there is another one; `period` was the
/// time before this one.
fn decide(reading: Reading, period: Duration) -> (Correction, Duration) {
    let by_ns = reading.behind_ns;
    let difference = Duration::from_nanos(by_ns.unsigned_abs());
    let doubt = reading.round_trip / 2;
    if difference <= doubt.max(TOLERANCE) {
        let next = if doubt <= TOLERANCE {
            (period * 2).min(LONGEST)
        } else {
            // It may be wrong by as much as that.
            period
        };
        return (Correction::Nothing, next);
    }
    if difference.saturating_sub(doubt) >= GREATEST_SLEW {
        return (Correction::Step(by_ns), SHORTEST);
    }
    (Correction::Slew(by_ns), SHORTEST)
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
        // This is how a clock that was set shows.
        Ok(_) | Err(rustix::io::Errno::CANCELED | rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    #[test]
    fn a_period_ends() {
        let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC).unwrap();
        wait(&timer, Duration::from_secs(0)).unwrap();
        wait(&timer, Duration::from_secs(1)).unwrap();
    }

    #[test]
    fn a_small_difference_is_slewed_and_a_large_one_stepped() {
        use Correction::{Nothing, Slew, Step};
        let minute = Duration::from_mins(1);
        for (behind_ms, round_trip_ms, expected) in [
            (0, 1, (Nothing, 2 * minute)),
            (-5, 1, (Nothing, 2 * minute)),
            // It is not known whether they agree.
            (90, 200, (Nothing, minute)),
            (6, 1, (Slew(6 * MS), SHORTEST)),
            (-499, 1, (Slew(-499 * MS), SHORTEST)),
            (501, 2, (Step(501 * MS), SHORTEST)),
            // It may be less than it seems.
            (550, 200, (Slew(550 * MS), SHORTEST)),
            (-86_400_000, 900, (Step(-86_400_000 * MS), SHORTEST)),
        ] {
            let reading = Reading {
                behind_ns: behind_ms * MS,
                round_trip: Duration::from_millis(round_trip_ms),
            };
            assert_eq!(decide(reading, minute), expected, "{reading:?}");
        }
    }

    #[test]
    fn clocks_that_agree_are_read_seldom_and_any_number_of_a_guest_is_a_time() {
        let agreeing = Reading {
            behind_ns: 0,
            round_trip: Duration::ZERO,
        };
        let (_, next) = decide(agreeing, LONGEST);
        assert_eq!(next, LONGEST);
        for behind_ns in [i64::MIN, i64::MAX] {
            let reading = Reading {
                behind_ns,
                ..agreeing
            };
            let expected = (Correction::Step(behind_ns), SHORTEST);
            assert_eq!(decide(reading, LONGEST), expected);
        }
    }
}
