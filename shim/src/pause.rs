//! `caisson-pause`: the one process of a sandbox that no image begins.
//!
//! It does nothing until it is told to end, but collects processes whose parents
//! in a shared pid namespace have gone, as its first process must.

use std::process::ExitCode;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

fn main() -> ExitCode {
    let mut heard = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        heard.add(signal);
    }
    if heard.thread_block().is_err() {
        return ExitCode::FAILURE;
    }
    loop {
        match heard.wait() {
            Ok(Signal::SIGCHLD) => collect(),
            Ok(_) => return ExitCode::SUCCESS,
            Err(_) => return ExitCode::FAILURE,
        }
    }
}

/// One signal may stand for several children.
fn collect() {
    while let Ok(ended) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if ended == WaitStatus::StillAlive {
            return;
        }
    }
}
