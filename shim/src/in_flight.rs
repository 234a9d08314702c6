//! Starts under way, of processes in a container or of containers in a server, any
//! number of them in parallel; and the point from which further ones are refused.
//!
//! Owns that order alone: `close` returns once every start is complete, so that what was
//! started can be ended or waited for.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The starts under way in one container or server.
#[derive(Debug, Default)]
pub(crate) struct InFlightStarts {
    state: Mutex<InFlightState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct InFlightState {
    under_way: usize,
    is_closed: bool,
}

/// A start under way, until this is dropped.
#[derive(Debug)]
pub(crate) struct InFlightStart<'a>(&'a InFlightStarts);

impl InFlightStarts {
    /// Begins a start; `None` after [`Self::close`].
    pub(crate) fn begin(&self) -> Option<InFlightStart<'_>> {
        let mut state = self.state();
        if state.is_closed {
            return None;
        }
        state.under_way += 1;
        Some(InFlightStart(self))
    }

    /// Whether a start is under way.
    pub(crate) fn any(&self) -> bool {
        self.state().under_way > 0
    }

    /// Refuses further starts, and waits for those under way.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        while state.under_way > 0 {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, InFlightState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InFlightStart<'_> {
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
    fn closing_waits_for_starts_under_way_and_refuses_further_ones() {
        let starts = InFlightStarts::default();
        let first = starts.begin().unwrap();
        let second = starts.begin().unwrap();
        std::thread::scope(|scope| {
            let (closed, is_closed) = mpsc::channel();
            let all = &starts;
            scope.spawn(move || {
                all.close();
                closed.send(()).unwrap();
            });
            assert!(starts.any());
            while starts.begin().is_some() {
                std::thread::yield_now();
            }
            drop(first);
            let too_early = is_closed.recv_timeout(Duration::from_millis(20));
            assert_eq!(too_early, Err(mpsc::RecvTimeoutError::Timeout));
            drop(second);
            assert_eq!(is_closed.recv(), Ok(()));
            assert!(!starts.any());
        });
    }
}
