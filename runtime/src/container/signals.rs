//! Takes the signals that reach a process which stands for one in the guest, and
//! undoes what a program inherits of its caller's.
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
/// Those by which the kernel also tells a process of a fault of its own. One that is
/// held back still ends it then, so only what others send is ever read.
const FAULTS: [Signal; 6] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGSYS,
    Signal::SIGTRAP,
];

/// What nohup(1) and a shell's background jobs ignore on purpose: it stays so for this
/// program and what it starts on the host, as with runc.
const CALLERS: [i32; 2] = [Signal::SIGHUP as i32, Signal::SIGINT as i32];

/// Forgets which signals the caller has blocked and ignores: a program whose caller
/// ignores SIGCHLD learns of no child how it ended (wait(2)), and hooks would inherit
/// all of it. Call first in a program, before any thread starts.
pub fn forget_callers() {
    // SIGPIPE is ignored by Rust's own start, and not by what it starts.
    let kept = [
        Signal::SIGPIPE as i32,
        Signal::SIGKILL as i32,
        Signal::SIGSTOP as i32,
    ];
    for number in 1..=nix::libc::SIGRTMAX() {
        if !CALLERS.contains(&number) && !kept.contains(&number) {
            crate::sys::stop_ignoring(number);
        }
    }
    // The kernel refuses no mask.
    SigSet::empty().thread_set_mask().ok();
}

/// Signals that are held back, to be passed on.
#[derive(Debug)]
pub struct BlockedSignals(SigSet);

impl BlockedSignals {
    /// Holds back every signal that is passed on, real-time ones too. Call before any
    /// thread starts.
    ///
    /// # Errors
    /// When the kernel refuses the mask.
    pub fn begin() -> io::Result<Self> {
        // Without the two that the C library keeps for its threads.
        let mut mask = SigSet::all();
        OWN.into_iter().for_each(|signal| mask.remove(signal));
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
            let number = i32::try_from(signal.ssi_signo).ok()?;
            let goes_on = is_of_this_process(number, signal.ssi_code) || pass_on(number);
            goes_on.then_some(())
        };
        let work = move || while next().is_some() {};
        let thread = std::thread::Builder::new()
            .name("signals".into())
            .stack_size(64 * 1024);
        thread.spawn(work).map(drop)
    }
}

/// Whether it tells this process of something in itself, such as memory that has gone
/// bad: processes send with codes of 0 and below (sigaction(2), `si_code`).
fn is_of_this_process(number: i32, code: i32) -> bool {
    code > 0 && FAULTS.iter().any(|fault| *fault as i32 == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_this_process_is_not_the_guests() {
        let (of_the_kernel, by_kill) = (nix::libc::BUS_MCEERR_AO, nix::libc::SI_USER);
        assert!(is_of_this_process(nix::libc::SIGBUS, of_the_kernel));
        assert!(!is_of_this_process(nix::libc::SIGBUS, by_kill));
        assert!(!is_of_this_process(nix::libc::SIGHUP, nix::libc::SI_KERNEL));
    }
}
