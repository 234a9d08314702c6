//! Where vCPU threads wait while the VM is paused, and the signal that takes them there.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use nix::libc;
use nix::sys::signal::Signal;

/// Takes a thread out of KVM_RUN. Its handler does nothing.
pub(crate) const KICK_SIGNAL: libc::c_int = KICK as libc::c_int;
pub(crate) const KICK: Signal = Signal::SIGUSR1;
/// Where vCPU threads wait while the machine is paused.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    position: Mutex<Position>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Position {
    is_closed: bool,
    /// Counts closings, so that a late acknowledgement is not taken for another's.
    round: u64,
}

impl Gate {
    /// Closes it; returns the round that begins.
    pub(crate) fn close(&self) -> u64 {
        let mut position = self.lock();
        position.is_closed = true;
        position.round += 1;
        position.round
    }

    pub(crate) fn open(&self) {
        self.lock().is_closed = false;
        self.moved.notify_all();
    }

    /// The round for which it is closed; `None` while it is open.
    pub(crate) fn closed_round(&self) -> Option<u64> {
        let position = self.lock();
        position.is_closed.then_some(position.round)
    }

    /// Waits for the end of `round`.
    pub(crate) fn wait(&self, round: u64) {
        let mut position = self.lock();
        while position.is_closed && position.round == round {
            position = self
                .moved
                .wait(position)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Position> {
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
