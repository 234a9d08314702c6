//! The life cycle of a machine: its states, and which may follow which.
//!
//! Owns the table of legal moves, as data. The event loop is the one driver: it does what
//! a move takes, and enters the new state when that is done.
//!
//! ```text
//!            all threads        every vCPU is parked, then
//!            are filtered       no queue is served
//! Starting --------------> Running ------------------------> Paused
//!     |                    |  ^  ^--- not parked in time ---'   |
//!     |                    |  '------------- resume ------------|
//!     |                    |                                    |
//!     '-----------------> Stopped <-----------------------------'
//!          an error,  the guest's end,    the owner's stop,
//!                     an error            an error
//! ```
//!
//! In `Paused` no vCPU is in KVM, with nothing left to complete there, and no queue is
//! served by anybody: the event loop takes no notification, and the rings of back ends in
//! other processes and in the kernel are stopped. So guest memory and all state stand
//! still. Notifications that come meanwhile wait, and are served after the resume.

use std::fmt;

/// A state of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Being built: the guest has not run yet.
    Starting,
    /// The guest runs.
    Running,
    /// vCPUs are parked and queues at rest, until the owner resumes the machine.
    Paused,
    /// The guest does not run any more; the process is about to end.
    Stopped,
}

impl State {
    /// The states that may follow.
    const fn next(self) -> &'static [Self] {
        match self {
            Self::Starting => &[Self::Running, Self::Stopped],
            Self::Running => &[Self::Paused, Self::Stopped],
            Self::Paused => &[Self::Running, Self::Stopped],
            Self::Stopped => &[],
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// A move that the table does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the machine can't become {wanted}: it is {present}")]
pub(crate) struct IllegalMove {
    /// The state that was asked for.
    pub(crate) wanted: State,
    /// The state the machine is in.
    pub(crate) present: State,
}

/// Where a machine is in its life.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    state: State,
}

impl Lifecycle {
    /// A machine that is being built.
    pub(crate) const fn new() -> Self {
        Self {
            state: State::Starting,
        }
    }

    /// The present state.
    pub(crate) const fn state(&self) -> State {
        self.state
    }

    /// Checks that `wanted` may follow, before what it takes is begun.
    pub(crate) fn check(&self, wanted: State) -> Result<(), IllegalMove> {
        let present = self.state;
        if present.next().contains(&wanted) {
            Ok(())
        } else {
            Err(IllegalMove { wanted, present })
        }
    }

    /// Moves to `wanted`.
    pub(crate) fn enter(&mut self, wanted: State) -> Result<(), IllegalMove> {
        self.check(wanted)?;
        self.state = wanted;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::State::{Paused, Running, Starting, Stopped};
    use super::*;

    const ALL: [State; 4] = [Starting, Running, Paused, Stopped];

    #[test]
    fn exactly_the_moves_of_the_diagram_are_legal() {
        let legal = [
            (Starting, Running),
            (Starting, Stopped),
            (Running, Paused),
            (Running, Stopped),
            (Paused, Running),
            (Paused, Stopped),
        ];
        let pairs = ALL.map(|present| ALL.map(|wanted| (present, wanted)));
        for (present, wanted) in pairs.into_iter().flatten() {
            let mut machine = Lifecycle { state: present };
            let entered = machine.enter(wanted);
            let expected = if legal.contains(&(present, wanted)) {
                (Ok(()), wanted)
            } else {
                (Err(IllegalMove { wanted, present }), present)
            };
            assert_eq!((entered, machine.state()), expected);
        }
    }

    #[test]
    fn a_refusal_names_both_states() {
        let mut machine = Lifecycle::new();
        machine.enter(Running).unwrap();
        let refused = machine.enter(Running).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the machine can't become running: it is running"
        );
    }
}
