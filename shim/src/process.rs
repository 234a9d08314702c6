//! One process as containerd knows it: added, starting, created, running, stopped.
//!
//! ```text
//! exec: added -> starting -> running -> stopped    init: created -> running -> stopped
//! ```
//! Owns the state, the one record of its exit, which any number of waiters read, and
//! what is held of its streams.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use caisson::process::pidfd::Pidfd;
use serde_json::Value;

use crate::console::Terminal;
use crate::error::Error;
use crate::stdio::{HeldStreams, StreamNames};

/// Output that a client doesn't read is dropped after this.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// A container's init, or an exec.
#[derive(Debug)]
pub(crate) struct Process {
    /// Empty for a container's init.
    pub(crate) exec_id: String,
    pub(crate) names: StreamNames,
    /// OCI `process` object of an exec.
    pub(crate) spec: Value,
    state: Mutex<ProcessState>,
    changed: Condvar,
}

#[derive(Debug)]
struct ProcessState {
    phase: Phase,
    pid: u32,
    handle: Option<Pidfd>,
    held: HeldStreams,
    /// CloseIO may come before there is an input.
    input_ended: bool,
    terminal: Option<Terminal>,
    /// Rows and columns that were set before there was a terminal.
    size: Option<(u16, u16)>,
    /// Its container was deleted: a start that fails is its end.
    abandoned: bool,
}

/// The state of a process in containerd's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Added by Exec; nothing runs.
    Added,
    /// A start is under way: its program does not run yet.
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

/// As runc's shim reports it.
const NEVER_RAN: Exit = Exit {
    status: 0,
    at: SystemTime::UNIX_EPOCH,
};

/// The process on the host whose pid callers see, with its streams.
#[derive(Debug)]
pub(crate) struct ProxyProcess {
    pub(crate) pid: i32,
    pub(crate) held: HeldStreams,
    pub(crate) terminal: Option<Terminal>,
}

impl Process {
    /// An exec that was added.
    pub(crate) fn added(exec_id: &str, names: StreamNames, spec: Value) -> Self {
        let state = ProcessState {
            phase: Phase::Added,
            pid: 0,
            handle: None,
            held: HeldStreams::default(),
            input_ended: false,
            terminal: None,
            size: None,
            abandoned: false,
        };
        Self {
            exec_id: exec_id.to_owned(),
            names,
            spec,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// A container's init, whose proxy process runs. Some clients close their end of the
    /// input while the container is created, and never call CloseIO: until the start, a
    /// client that closes its end ends the input.
    pub(crate) fn init(names: StreamNames, mut proxy: ProxyProcess) -> Self {
        proxy.held.close_input();
        let process = Self::added("", names, Value::Null);
        process.attach(proxy, Phase::Created);
        process
    }

    fn attach(&self, proxy: ProxyProcess, phase: Phase) {
        let mut state = self.state();
        state.pid = proxy.pid.unsigned_abs();
        // A child that was not waited for yet: the pid is still its own.
        state.handle = Pidfd::of(proxy.pid).ok();
        state.held = proxy.held;
        if state.input_ended {
            state.held.close_input();
        }
        state.terminal = proxy.terminal;
        if let (Some(terminal), Some((rows, columns))) = (&state.terminal, state.size) {
            // A terminal that is gone needs no size.
            terminal.resize(rows, columns).ok();
        }
        state.phase = phase;
        self.changed.notify_all();
    }

    /// Claims the start, for one caller alone.
    pub(crate) fn begin_start(&self) -> Result<(), Error> {
        let mut state = self.state();
        if state.phase != Phase::Added {
            let text = format!("exec {} was started before", self.exec_id);
            return Err(Error::Precondition(text));
        }
        state.phase = Phase::Starting;
        Ok(())
    }

    /// Records that the start has failed: it can be tried again, or the exec deleted.
    pub(crate) fn abort_start(&self) {
        let mut state = self.state();
        state.phase = if state.abandoned {
            Phase::Stopped(NEVER_RAN)
        } else {
            Phase::Added
        };
        self.changed.notify_all();
    }

    /// Records that its program runs; an exec has its proxy process from then on.
    pub(crate) fn mark_running(&self, proxy: Option<ProxyProcess>) {
        match proxy {
            Some(proxy) => self.attach(proxy, Phase::Running),
            None => {
                let mut state = self.state();
                state.phase = Phase::Running;
                if !state.input_ended {
                    state.held.keep_input();
                }
            }
        }
    }

    /// Records the exit, has `publish` queue its event, and wakes the waiters. The lock is
    /// held meanwhile: no event of what follows the exit is queued before its own.
    pub(crate) fn record_exit(&self, exit: Exit, publish: impl FnOnce()) {
        let mut state = self.state();
        state.phase = Phase::Stopped(exit);
        state.handle = None;
        publish();
        self.changed.notify_all();
    }

    /// Ends an exec that was never started, and wakes its waiters. Returns the exit of a
    /// process that has ended, by this or before; `None` for one that runs or is started.
    pub(crate) fn retire(&self) -> Option<Exit> {
        let exit = self.state().retire();
        self.changed.notify_all();
        exit
    }

    /// As [`Self::retire`], for an exec whose container is deleted: a start under way that
    /// fails is its end.
    pub(crate) fn abandon(&self) {
        let mut state = self.state();
        state.abandoned = state.retire().is_none();
        self.changed.notify_all();
    }

    /// Its current phase.
    pub(crate) fn phase(&self) -> Phase {
        self.state().phase
    }

    /// The pid of its proxy process; 0 before there is one.
    pub(crate) fn pid(&self) -> u32 {
        self.state().pid
    }

    /// Waits for its exit, `limit` at most.
    pub(crate) fn wait_for(&self, limit: Duration) -> Option<Exit> {
        let runs = |state: &mut ProcessState| !matches!(state.phase, Phase::Stopped(_));
        let waited = self.changed.wait_timeout_while(self.state(), limit, runs);
        match waited.unwrap_or_else(PoisonError::into_inner).0.phase {
            Phase::Stopped(exit) => Some(exit),
            Phase::Added | Phase::Starting | Phase::Created | Phase::Running => None,
        }
    }

    /// Waits for its exit.
    pub(crate) fn wait(&self) -> Exit {
        let mut state = self.state();
        loop {
            if let Phase::Stopped(exit) = state.phase {
                return exit;
            }
            state = self.await_change(state);
        }
    }

    fn await_change<'a>(
        &self,
        state: MutexGuard<'a, ProcessState>,
    ) -> MutexGuard<'a, ProcessState> {
        let changed = self.changed.wait(state);
        changed.unwrap_or_else(PoisonError::into_inner)
    }

    /// Signals the proxy process of an exec, which forwards the signal; waits for a start
    /// under way.
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

    /// Ends its input after the bytes that were already written.
    pub(crate) fn close_input(&self) {
        let mut state = self.state();
        state.input_ended = true;
        state.held.close_input();
    }

    /// Closes its streams, once the last of its output was copied.
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

    fn state(&self) -> MutexGuard<'_, ProcessState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// containerd regards this as success where it wants the process gone.
fn finished() -> Error {
    Error::NotFound("process already finished: not found".to_owned())
}

impl ProcessState {
    fn retire(&mut self) -> Option<Exit> {
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
    fn an_exec_that_is_being_started_is_neither_deleted_nor_started_twice() {
        let process = Process::added("e", StreamNames::default(), Value::Null);
        let refused = process.signal(9).unwrap_err();
        assert!(matches!(refused, Error::Precondition(_)), "{refused:?}");
        process.begin_start().unwrap();
        assert!(process.begin_start().is_err());
        assert_eq!(process.retire(), None);
        process.abort_start();
        assert_eq!(process.retire(), Some(NEVER_RAN));
        assert!(process.begin_start().is_err());

        let abandoned = Process::added("e", StreamNames::default(), Value::Null);
        abandoned.begin_start().unwrap();
        abandoned.abandon();
        abandoned.abort_start();
        assert_eq!(abandoned.wait(), NEVER_RAN);
    }

    #[test]
    fn an_exit_is_recorded_once_and_read_by_all() {
        let process = Arc::new(Process::added("e", StreamNames::default(), Value::Null));
        let waiting = Arc::clone(&process);
        let waiter = std::thread::spawn(move || waiting.wait());
        let exit = Exit {
            status: 7,
            at: SystemTime::UNIX_EPOCH,
        };
        process.record_exit(exit, || {});
        assert_eq!(waiter.join().unwrap(), exit);
        assert_eq!(process.wait(), exit);
        assert!(matches!(process.signal(9), Err(Error::NotFound(_))));
    }
}
