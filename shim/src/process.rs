//! One process as containerd knows it: added, starting, created, running, stopped.
//!
//! ```text
//! exec: added -> starting -> running -> stopped    init: created -> running -> stopped
//! ```
//! Owns the state, the one record of its end, which any number of waiters read,
//! and what is held of its streams.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use caisson::process::pidfd::Pidfd;
use serde_json::Value;

use crate::console::Terminal;
use crate::error::Error;
use crate::stdio::{Held, Names};

/// What a client that doesn't read holds back is lost after this.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(crate) struct Process {
    /// Empty for a container's init.
    pub(crate) exec_id: String,
    pub(crate) names: Names,
    /// OCI `process` object of an exec.
    pub(crate) wish: Value,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    pid: u32,
    handle: Option<Pidfd>,
    held: Held,
    /// That can be said before there is an input.
    input_ended: bool,
    terminal: Option<Terminal>,
    /// Rows and columns that were asked for before there was a terminal.
    size: Option<(u16, u16)>,
    /// Nobody knows it any more: a start that fails is its end.
    forgotten: bool,
}

/// Where it is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Announced; nothing runs.
    Added,
    /// Somebody starts it: its program does not run yet.
    Starting,
    /// Set up; its program does not run.
    Created,
    /// Its program runs.
    Running,
    /// It has ended.
    Stopped(Exit),
}

/// How and when a process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    /// Exit code, or 128 plus the signal.
    pub(crate) status: u32,
    pub(crate) at: SystemTime,
}

/// As runc's shim tells it.
const NEVER_RAN: Exit = Exit {
    status: 0,
    at: SystemTime::UNIX_EPOCH,
};

/// What a process on the host brings along.
#[derive(Debug)]
pub(crate) struct StandIn {
    pub(crate) pid: i32,
    pub(crate) held: Held,
    pub(crate) terminal: Option<Terminal>,
}

impl Process {
    /// An exec that was announced.
    pub(crate) fn added(exec_id: &str, names: Names, wish: Value) -> Self {
        let state = State {
            phase: Phase::Added,
            pid: 0,
            handle: None,
            held: Held::default(),
            input_ended: false,
            terminal: None,
            size: None,
            forgotten: false,
        };
        Self {
            exec_id: exec_id.to_owned(),
            names,
            wish,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// A container's init, for which a process stands that was started. Some
    /// clients close their input while it was being created, and then never say
    /// so: until it is started, their going away is the end of it.
    pub(crate) fn init(names: Names, mut stand_in: StandIn) -> Self {
        stand_in.held.close_input();
        let process = Self::added("", names, Value::Null);
        process.stands_for(stand_in, Phase::Created);
        process
    }

    fn stands_for(&self, stand_in: StandIn, phase: Phase) {
        let mut state = self.state();
        state.pid = stand_in.pid.unsigned_abs();
        // A child that nobody has waited for yet: the number is its.
        state.handle = Pidfd::of(stand_in.pid).ok();
        state.held = stand_in.held;
        if state.input_ended {
            state.held.close_input();
        }
        state.terminal = stand_in.terminal;
        if let (Some(terminal), Some((rows, columns))) = (&state.terminal, state.size) {
            // One that is gone already needs no size.
            terminal.resize(rows, columns).ok();
        }
        state.phase = phase;
        self.changed.notify_all();
    }

    /// Somebody starts it, and nobody else may.
    pub(crate) fn starts(&self) -> Result<(), Error> {
        let mut state = self.state();
        if state.phase != Phase::Added {
            let text = format!("exec {} was started before", self.exec_id);
            return Err(Error::Precondition(text));
        }
        state.phase = Phase::Starting;
        Ok(())
    }

    /// It could not be started, and can be forgotten.
    pub(crate) fn did_not_start(&self) {
        let mut state = self.state();
        state.phase = if state.forgotten {
            Phase::Stopped(NEVER_RAN)
        } else {
            Phase::Added
        };
        self.changed.notify_all();
    }

    /// It runs now; an exec brings along what stands for it.
    pub(crate) fn runs(&self, stand_in: Option<StandIn>) {
        match stand_in {
            Some(stand_in) => self.stands_for(stand_in, Phase::Running),
            None => {
                let mut state = self.state();
                state.phase = Phase::Running;
                if !state.input_ended {
                    state.held.keep_input();
                }
            }
        }
    }

    /// Records its end, has `tell` announce it and wakes who waits for it. Nobody sees
    /// the one without the other: what follows an end comes after its announcement.
    pub(crate) fn has_ended(&self, exit: Exit, tell: impl FnOnce()) {
        let mut state = self.state();
        state.phase = Phase::Stopped(exit);
        state.handle = None;
        tell();
        self.changed.notify_all();
    }

    /// Nobody will ask for it again, unless it runs or begins to. One that never ran is
    /// over with that: who waits is told so. The answer is its end.
    pub(crate) fn forget(&self) -> Option<Exit> {
        let exit = self.state().forget();
        self.changed.notify_all();
        exit
    }

    /// The same, of one whose container is put away: a start that is under way and fails
    /// is its end.
    pub(crate) fn abandon(&self) {
        let mut state = self.state();
        state.forgotten = state.forget().is_none();
        self.changed.notify_all();
    }

    /// Where it is in its life.
    pub(crate) fn phase(&self) -> Phase {
        self.state().phase
    }

    /// The process on the host that stands for it; 0 before there is one.
    pub(crate) fn pid(&self) -> u32 {
        self.state().pid
    }

    /// Waits for its end, `limit` at most.
    pub(crate) fn wait_for(&self, limit: Duration) -> Option<Exit> {
        let runs = |state: &mut State| !matches!(state.phase, Phase::Stopped(_));
        let waited = self.changed.wait_timeout_while(self.state(), limit, runs);
        match waited.unwrap_or_else(PoisonError::into_inner).0.phase {
            Phase::Stopped(exit) => Some(exit),
            Phase::Added | Phase::Starting | Phase::Created | Phase::Running => None,
        }
    }

    /// Waits for its end.
    pub(crate) fn wait(&self) -> Exit {
        let mut state = self.state();
        loop {
            if let Phase::Stopped(exit) = state.phase {
                return exit;
            }
            state = self.await_change(state);
        }
    }

    fn await_change<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let changed = self.changed.wait(state);
        changed.unwrap_or_else(PoisonError::into_inner)
    }

    /// Signals what stands for an exec, which passes it on; one that is being started
    /// first gets there.
    pub(crate) fn signal(&self, number: i32) -> Result<(), Error> {
        let mut state = self.state();
        while state.phase == Phase::Starting {
            state = self.await_change(state);
        }
        if state.phase == Phase::Added {
            return Err(Error::Precondition("process not created".to_owned()));
        }
        let handle = state.handle.as_ref().ok_or_else(finished)?;
        handle
            .signal(number)
            .map_err(|err| match err.raw_os_error() {
                Some(nix::libc::ESRCH) => finished(),
                _ => Error::step(&format!("send signal {number}"), &err),
            })
    }

    /// Sets the size of its terminal.
    pub(crate) fn resize(&self, rows: u16, columns: u16) -> Result<(), Error> {
        let mut state = self.state();
        match (&state.terminal, state.phase) {
            (Some(terminal), _) => terminal
                .resize(rows, columns)
                .map_err(|err| Error::step("resize the terminal", &err)),
            // Docker resizes what has not started yet.
            (None, Phase::Added | Phase::Starting) => {
                state.size = Some((rows, columns));
                Ok(())
            }
            (None, _) => Err(Error::Precondition(
                "the process has no terminal".to_owned(),
            )),
        }
    }

    /// Its input ends after what was already written.
    pub(crate) fn close_input(&self) {
        let mut state = self.state();
        state.input_ended = true;
        state.held.close_input();
    }

    /// Lets go of its streams, once the last of its output is handed over.
    pub(crate) fn release(&self) {
        let (held, terminal) = {
            let mut state = self.state();
            (std::mem::take(&mut state.held), state.terminal.take())
        };
        if let Some(terminal) = terminal {
            terminal.drain(DRAIN_LIMIT);
        }
        drop(held);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// containerd takes this for success where it wants the process gone.
fn finished() -> Error {
    Error::NotFound("process already finished: not found".to_owned())
}

impl State {
    fn forget(&mut self) -> Option<Exit> {
        if self.phase == Phase::Added {
            self.phase = Phase::Stopped(NEVER_RAN);
        }
        match self.phase {
            Phase::Stopped(exit) => Some(exit),
            Phase::Added | Phase::Starting | Phase::Created | Phase::Running => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn one_that_is_being_started_is_neither_forgotten_nor_started_twice() {
        let process = Process::added("e", Names::default(), Value::Null);
        let refused = process.signal(9).unwrap_err();
        assert!(matches!(refused, Error::Precondition(_)), "{refused:?}");
        process.starts().unwrap();
        assert!(process.starts().is_err());
        assert_eq!(process.forget(), None);
        process.did_not_start();
        assert_eq!(process.forget(), Some(NEVER_RAN));
        assert!(process.starts().is_err());

        let abandoned = Process::added("e", Names::default(), Value::Null);
        abandoned.starts().unwrap();
        abandoned.abandon();
        abandoned.did_not_start();
        assert_eq!(abandoned.wait(), NEVER_RAN);
    }

    #[test]
    fn an_end_is_recorded_once_and_read_by_all() {
        let process = Arc::new(Process::added("e", Names::default(), Value::Null));
        let waiting = Arc::clone(&process);
        let waiter = std::thread::spawn(move || waiting.wait());
        let exit = Exit {
            status: 7,
            at: SystemTime::UNIX_EPOCH,
        };
        process.has_ended(exit, || {});
        assert_eq!(waiter.join().unwrap(), exit);
        assert_eq!(process.wait(), exit);
        assert!(matches!(process.signal(9), Err(Error::NotFound(_))));
    }
}
