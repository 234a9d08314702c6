//! Pausing and resuming a machine without KVM: an owner, devices, and threads in place of
//! vCPUs that park, or never do.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::thread;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, recv, send, setsockopt, socketpair, sockopt,
};
use nix::sys::time::TimeVal;
use virtio_queue::desc::split::Descriptor;
use vmm_sys_util::eventfd::EventFd;

use super::*;
use crate::control::MAX_PACKET_LEN;
use crate::gate::Gate;
use crate::mailbox::mailbox;
use crate::model::{DATA_AT, Model};
use crate::vcpus::{VcpuThread, accept_kicks};
use crate::virtio::guest_ring::{GuestRing, WRITE};

const RNG: usize = 3;

/// How the one vCPU of a machine takes the request to park.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vcpu {
    Parks,
    NeverParks,
}

/// The owner's end of the control socket.
struct Control(OwnedFd);

impl Control {
    fn send(&self, request: &Request) {
        let packet = serde_json::to_vec(request).unwrap();
        send(self.0.as_raw_fd(), &packet, MsgFlags::empty()).unwrap();
    }

    fn receive(&self) -> Report {
        let mut packet = [0; MAX_PACKET_LEN];
        let len = recv(self.0.as_raw_fd(), &mut packet, MsgFlags::empty()).unwrap();
        serde_json::from_slice(&packet[..len]).unwrap()
    }

    fn ask(&self, request: &Request) -> Report {
        self.send(request);
        self.receive()
    }
}

/// The guest's driver of the entropy source.
struct Driver {
    ring: GuestRing,
    kick: EventFd,
}

/// Runs `owner` beside a machine's event loop, and stops the machine after it.
fn with_machine(vcpu: Vcpu, owner: impl FnOnce(&Control, &Driver) + Send) -> Exit {
    accept_kicks().unwrap();
    let kind = SockType::SeqPacket;
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).unwrap();
    // A machine that does not answer fails the test.
    setsockopt(&ours, sockopt::ReceiveTimeout, &TimeVal::new(60, 0)).unwrap();
    let model = Model::new().unwrap();
    let up = model.bring_up(RNG).unwrap();
    let (mailbox, inbox) = mailbox().unwrap();
    let gate = Arc::new(Gate::default());
    let immediate_exit: &'static AtomicU8 = Box::leak(Box::default());
    let thread_gate = Arc::downgrade(&gate);
    let vcpu_mailbox = mailbox.clone();
    let handle = thread::spawn(move || {
        if vcpu == Vcpu::NeverParks {
            return;
        }
        while let Some(gate) = thread_gate.upgrade() {
            if let Some(round) = gate.closed_round() {
                vcpu_mailbox.parked(round);
                gate.wait(round);
            }
            thread::yield_now();
        }
    });
    let vcpus = Vcpus::of(
        vec![VcpuThread {
            handle,
            immediate_exit,
        }],
        gate,
    );
    let driver = Driver {
        ring: model.ring(RNG, 0),
        kick: model.kick_descriptor(RNG, 0).unwrap(),
    };
    let slots = model.into_slots();
    mailbox.apply(RNG, up);
    thread::scope(|scope| {
        let course = scope.spawn(move || {
            let control = Control(ours);
            owner(&control, &driver);
            control.send(&Request::Stop);
            let Report::Exit { reason } = control.receive() else {
                panic!("not the end");
            };
            reason
        });
        let mut owner = Owner::new(theirs);
        let mut event_loop = EventLoop::new(inbox, &mut owner, slots, vcpus).unwrap();
        if vcpu == Vcpu::NeverParks {
            event_loop.parking_limit = Duration::ZERO;
        }
        event_loop.announce().unwrap();
        event_loop.run();
        course.join().unwrap()
    })
}

fn done() -> Report {
    Report::Done { slot: None }
}

#[test]
fn a_notification_during_a_pause_is_served_after_it() {
    let exit = with_machine(Vcpu::Parks, |control, driver| {
        assert_eq!(control.receive(), Report::Running);
        let ring = &driver.ring;
        ring.describe(0, Descriptor::new(DATA_AT, 8, WRITE, 0));
        for turn in 1..=3 {
            // Only in the pause is it announced: a device that has just come up looks at
            // its queues without a notification.
            ring.offer(turn - 1, 0);
            assert_eq!(control.ask(&Request::Pause), done());
            ring.announce(turn);
            driver.kick.write(1).unwrap();
            // Served behind the notification, if that were served.
            let refused = control.ask(&Request::Unplug { slot: 0 });
            assert!(matches!(refused, Report::Failed { .. }), "{refused:?}");
            assert_eq!(ring.used(), turn - 1);
            assert_eq!(control.ask(&Request::Resume), done());
            while ring.used() < turn {
                thread::yield_now();
            }
        }
    });
    assert_eq!(exit, Exit::Stopped);
}

#[test]
fn a_vcpu_that_does_not_park_fails_the_pause_and_nothing_else() {
    let exit = with_machine(Vcpu::NeverParks, |control, _| {
        assert_eq!(control.receive(), Report::Running);
        for _ in 0..2 {
            let message = "pause the machine: 1 vCPUs did not stop within 0ns".to_owned();
            assert_eq!(control.ask(&Request::Pause), Report::Failed { message });
        }
        let message = "the machine can't become running: it is running".to_owned();
        assert_eq!(control.ask(&Request::Resume), Report::Failed { message });
    });
    assert_eq!(exit, Exit::Stopped);
}

#[test]
fn a_paused_machine_is_not_paused_again_but_ends_when_it_is_stopped() {
    let exit = with_machine(Vcpu::Parks, |control, _| {
        assert_eq!(control.receive(), Report::Running);
        assert_eq!(control.ask(&Request::Pause), done());
        let message = "the machine can't become paused: it is paused".to_owned();
        assert_eq!(control.ask(&Request::Pause), Report::Failed { message });
    });
    assert_eq!(exit, Exit::Stopped);
}
