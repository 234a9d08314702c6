//! Threads in place of vCPUs, which park as those do.

use std::sync::mpsc::{Sender, channel};

use super::*;

/// A thread that is a vCPU as far as parking goes: KVM_RUN is a look at its byte. Sends
/// the rounds it parked for.
fn stand_in(gate: &Arc<Gate>, parked: Sender<u64>) -> VcpuThread {
    let immediate_exit: &'static AtomicU8 = Box::leak(Box::default());
    let gate = Arc::downgrade(gate);
    let handle = thread::spawn(move || {
        while let Some(gate) = gate.upgrade() {
            if immediate_exit.swap(0, Ordering::SeqCst) == 1 {
                park(&gate, &parked);
            }
            thread::yield_now();
        }
    });
    VcpuThread {
        handle,
        immediate_exit,
    }
}

fn park(gate: &Gate, parked: &Sender<u64>) {
    while let Some(round) = gate.closed_round() {
        // The test may be over.
        parked.send(round).ok();
        gate.wait(round);
    }
}

#[test]
fn every_thread_parks_once_for_each_round() {
    accept_kicks().unwrap();
    let gate = Arc::new(Gate::default());
    let (sender, parked) = channel();
    let threads = (0..3).map(|_| stand_in(&gate, sender.clone())).collect();
    let vcpus = Vcpus::of(threads, gate);
    for turn in 1..=100 {
        let round = vcpus.park();
        assert_eq!(round, turn);
        let rounds: Vec<u64> = parked.iter().take(vcpus.count()).collect();
        assert_eq!(rounds, [round; 3]);
        assert!(parked.try_recv().is_err(), "one parked twice");
        vcpus.unpark();
    }
}

#[test]
fn a_round_that_begins_before_the_last_one_was_left_is_another() {
    let gate = Gate::default();
    assert_eq!(gate.closed_round(), None);
    let first = gate.close();
    gate.open();
    let second = gate.close();
    assert_eq!(gate.closed_round(), Some(second));
    // Returns, as the round is over.
    gate.wait(first);
}

#[test]
fn a_signal_mask_of_the_owner_does_not_hold_kicks_up() {
    let mut kick = SigSet::empty();
    kick.add(KICK);
    kick.thread_block().unwrap();
    accept_kicks().unwrap();
    let inherited = thread::spawn(SigSet::thread_get_mask).join().unwrap();
    assert!(!inherited.unwrap().contains(KICK));
}
