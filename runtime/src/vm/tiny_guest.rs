//! Whether KVM runs a guest at all, within a time: for whoever examines the host.
//!
//! No start of a container asks this: its own VM shows it.

use std::fs::File;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use caisson_vmm::error_chain::chain;
use caisson_vmm::probe;

use crate::process::thread;

/// Two instructions take microseconds; a host that emulates them, milliseconds.
const LIMIT: Duration = Duration::from_millis(1500);
const STACK_KIB: usize = 256;

/// Runs a guest of two instructions on an open `/dev/kvm`; an error is why it did not end.
/// One that runs on stays behind in a thread of this process.
pub(crate) fn run_tiny_guest(kvm: File) -> Result<(), String> {
    let (report, reported) = channel();
    let run = move || {
        let ran = probe::run_tiny_guest(kvm.into());
        report.send(ran.map_err(|err| chain(&err))).ok();
    };
    thread::spawn("tiny-guest", STACK_KIB, run).map_err(|err| chain(&err))?;
    match reported.recv_timeout(LIMIT) {
        Ok(ran) => ran,
        Err(RecvTimeoutError::Timeout) => {
            Err(format!("it has not ended after {} ms", LIMIT.as_millis()))
        }
        Err(RecvTimeoutError::Disconnected) => Err("its thread ended early".into()),
    }
}
