//! The threads of the vCPUs: their start, and how all of them are parked.
//!
//! Owns the threads' handles and the gate they wait at. What a vCPU does is `vcpu`'s,
//! when it is parked is the event loop's decision.
//!
//! ```text
//! event loop                               each vCPU thread
//! close the gate
//! set immediate_exit, send the signal ---> KVM_RUN ends with EINTR, nothing left to complete
//!                                          clear immediate_exit, find the gate closed
//! count  <-------------------------------- Message::Parked, wait at the gate
//! open the gate -------------------------> KVM_RUN
//! ```
//!
//! A signal that arrives between two KVM_RUN is not lost: `immediate_exit` ends the next
//! one. A thread clears it before it looks at the gate, and the gate is closed before it
//! is set; so whichever order two requests and a thread come in, the thread looks once
//! more.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};

use nix::libc;
use nix::sys::signal::SigSet;
use vmm_sys_util::signal::{Killable, register_signal_handler};

use crate::control::Exit;
use crate::error_chain::chain;
use crate::gate::{Gate, KICK, KICK_SIGNAL};
use crate::seccomp;
use crate::vcpu::Vcpu;

/// Stack of a vCPU thread in bytes: its loop is shallow.
const STACK_LEN: usize = 64 * 1024;

/// A vCPU thread, as seen from others.
#[derive(Debug)]
pub(crate) struct VcpuThread {
    pub(crate) handle: JoinHandle<()>,
    /// `kvm_run.immediate_exit` of its vCPU.
    pub(crate) immediate_exit: &'static AtomicU8,
}

impl VcpuThread {
    fn kick(&self) {
        self.immediate_exit.store(1, Ordering::SeqCst);
        // Fails for a thread that has ended, whose last message is on its way.
        self.handle.kill(KICK_SIGNAL).ok();
    }
}

/// All vCPU threads of a machine.
#[derive(Debug)]
pub(crate) struct Vcpus {
    gate: Arc<Gate>,
    threads: Vec<VcpuThread>,
}

impl Vcpus {
    /// Starts the threads. Each filters its system calls, meets the others at `start`,
    /// and runs its guest when all met there once more.
    pub(crate) fn start(
        vcpus: Vec<Vcpu>,
        gate: Arc<Gate>,
        start: &Arc<Barrier>,
    ) -> Result<Self, StartError> {
        accept_kicks()?;
        let filter = Arc::new(seccomp::vcpu_filter()?);
        let mut threads = Vec::with_capacity(vcpus.len());
        for (id, vcpu) in vcpus.into_iter().enumerate() {
            let immediate_exit = vcpu.immediate_exit;
            let (filter, start) = (Arc::clone(&filter), Arc::clone(start));
            let handle = thread::Builder::new()
                .name(format!("vcpu{id}"))
                .stack_size(STACK_LEN)
                .spawn(move || run(vcpu, &filter, &start))?;
            threads.push(VcpuThread {
                handle,
                immediate_exit,
            });
        }
        Ok(Self::of(threads, gate))
    }

    /// Threads that were started, and wait at `gate`.
    pub(crate) fn of(threads: Vec<VcpuThread>, gate: Arc<Gate>) -> Self {
        Self { gate, threads }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.threads.len()
    }

    /// Has each thread park. Each sends [`crate::mailbox::Message::Parked`] with the
    /// round that is returned when it does.
    pub(crate) fn park(&self) -> u64 {
        let round = self.gate.close();
        self.threads.iter().for_each(VcpuThread::kick);
        round
    }

    /// Lets parked threads go on, and those that have not parked yet never do.
    pub(crate) fn unpark(&self) {
        self.gate.open();
    }
}

/// vCPU threads can't be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// No thread.
    #[error("start a vCPU thread")]
    Thread(#[from] io::Error),
    /// No handler for the kick.
    #[error("set the handler of the vCPU signal")]
    Signal(#[from] vmm_sys_util::errno::Error),
    /// The filter can't be built.
    #[error("filter system calls")]
    Seccomp(#[from] seccomp::Error),
}

/// Sets a handler for [`KICK_SIGNAL`], whose default is to end the process, and lets it
/// through in the threads to come: the owner may have blocked it in itself.
pub(crate) fn accept_kicks() -> Result<(), StartError> {
    extern "C" fn ignore(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
    register_signal_handler(KICK_SIGNAL, ignore)?;
    let mut kick = SigSet::empty();
    kick.add(KICK);
    Ok(kick.thread_unblock().map_err(io::Error::from)?)
}

/// A vCPU thread. None runs the guest before all are filtered.
fn run(mut vcpu: Vcpu, filter: &seccomp::Filter, start: &Barrier) {
    let filtered = filter.install();
    start.wait();
    start.wait();
    let exit = match filtered {
        Ok(()) => vcpu.run(),
        Err(error) => Exit::Error {
            message: chain(&error),
        },
    };
    vcpu.mailbox.end(exit);
    // The event loop may be gone by now: to close what is shared with it would take a
    // system call more.
    std::mem::forget(vcpu);
}

#[cfg(test)]
#[path = "vcpus_test.rs"]
mod tests;
