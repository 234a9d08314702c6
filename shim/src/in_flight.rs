//! What is beginning, processes in a container or containers in a server, any number
//! of them side by side, and the point from which nothing begins any more.
//!
//! Owns that order alone: whoever ends the whole waits here until all that began
//! before has begun, and can then be ended or waited for.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Beginnings {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    under_way: usize,
    is_over: bool,
}

/// Something that is beginning, until this is dropped.
#[derive(Debug)]
pub(crate) struct Beginning<'a>(&'a Beginnings);

impl Beginnings {
    /// Begins something, unless it is too late for that.
    pub(crate) fn begin(&self) -> Option<Beginning<'_>> {
        let mut state = self.state();
        if state.is_over {
            return None;
        }
        state.under_way += 1;
        Some(Beginning(self))
    }

    /// Whether anything is beginning.
    pub(crate) fn any(&self) -> bool {
        self.state().under_way > 0
    }

    /// From here on nothing begins. Waits for what is under way.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.is_over = true;
        while state.under_way > 0 {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Beginning<'_> {
    fn drop(&mut self) {
        self.0.state().under_way -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn the_end_waits_for_what_began_and_lets_nothing_begin() {
        let beginnings = Beginnings::default();
        let first = beginnings.begin().unwrap();
        let second = beginnings.begin().unwrap();
        std::thread::scope(|scope| {
            let (closed, is_closed) = mpsc::channel();
            let all = &beginnings;
            scope.spawn(move || {
                all.close();
                closed.send(()).unwrap();
            });
            assert!(beginnings.any());
            while beginnings.begin().is_some() {
                std::thread::yield_now();
            }
            drop(first);
            let too_early = is_closed.recv_timeout(Duration::from_millis(20));
            assert_eq!(too_early, Err(mpsc::RecvTimeoutError::Timeout));
            drop(second);
            assert_eq!(is_closed.recv(), Ok(()));
            assert!(!beginnings.any());
        });
    }
}
