//! Takes the signals that reach a process which stands for one in the guest.
//!
//! Owns which signals are passed on. SIGKILL can't be caught: then this process
//! dies, and what it stands for is killed because its connection closes.

use std::io;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;

/// Signals that mean something to this process itself.
const OWN: [Signal; 4] = [
    Signal::SIGKILL,
    Signal::SIGSTOP,
    Signal::SIGCHLD,
    Signal::SIGPIPE,
];
/// Faults of this process must end it, not be reported to the guest.
const FAULTS: [Signal; 7] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGSYS,
    Signal::SIGTRAP,
    Signal::SIGABRT,
];

/// Signals that are held back, to be passed on.
#[derive(Debug)]
pub struct HeldBack(SigSet);

impl HeldBack {
    /// Holds back every signal that is passed on. Call before any thread starts.
    ///
    /// # Errors
    /// When the kernel refuses the mask.
    pub fn begin() -> io::Result<Self> {
        let mut mask = SigSet::empty();
        Signal::iterator()
            .filter(|signal| !OWN.contains(signal) && !FAULTS.contains(signal))
            .for_each(|signal| mask.add(signal));
        mask.thread_block()?;
        Ok(Self(mask))
    }

    /// Gives each signal's number to `pass_on`, from a thread of its own,
    /// until that answers false.
    ///
    /// # Errors
    /// When descriptors or threads have run out.
    pub fn forward(self, mut pass_on: impl FnMut(i32) -> bool + Send + 'static) -> io::Result<()> {
        let signals = SignalFd::new(&self.0)?;
        let mut next = move || {
            let signal = signals.read_signal().ok().flatten()?;
            pass_on(i32::try_from(signal.ssi_signo).ok()?).then_some(())
        };
        let work = move || while next().is_some() {};
        let thread = std::thread::Builder::new()
            .name("signals".into())
            .stack_size(64 * 1024);
        thread.spawn(work).map(drop)
    }
}
