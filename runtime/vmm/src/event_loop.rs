//! The thread of the devices: waits for vCPUs, owner, queues and device descriptors,
//! and does one thing at a time.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::control::{Exit, Report, Request};
use crate::error_chain::chain;
use crate::lifecycle::{IllegalMove, Lifecycle, State};
use crate::mailbox::{self, Inbox, Message};
use crate::owner::{self, Owner};
use crate::poller::{Poller, Source};
use crate::slots::Slots;
use crate::vcpus::Vcpus;
use crate::virtio::block::{self, Block};
use crate::virtio::device::{self, VirtioDevice};
use crate::virtio::net::{Datapath, Net};

/// How long vCPUs may take to park. Each leaves KVM at the signal; what keeps one is a
/// processor of the host that it has to wait for, or a page of its memory.
const PARKING_LIMIT: Duration = Duration::from_secs(5);

/// Everything the thread owns.
pub(crate) struct EventLoop<'a> {
    lifecycle: Lifecycle,
    vcpus: Vcpus,
    parking_limit: Duration,
    poller: Poller,
    /// For the time in which no queue or device is served: inbox and owner only. What
    /// becomes ready meanwhile stays so in `poller`.
    quiet_poller: Poller,
    inbox: Inbox,
    owner: &'a mut Owner,
    slots: Slots,
}

/// Ends the loop.
#[derive(Debug)]
enum End {
    Exit(Exit),
    Wait(io::Error),
    Device(device::Error),
    Owner(owner::Error),
}

/// A change of the machine's state that the owner asks for.
#[derive(Debug, Clone, Copy)]
enum Change {
    Pause,
    Resume,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
enum ChangeError {
    /// Not from this state.
    #[error(transparent)]
    Illegal(#[from] IllegalMove),
    /// vCPUs still run; they go on.
    #[error("pause the machine: {running} vCPUs did not stop within {limit:?}")]
    NotParked { running: usize, limit: Duration },
    /// The machine ends instead.
    #[error("the machine ends")]
    End(End),
}

impl From<End> for ChangeError {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

/// Why the machine was not announced.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnnounceError {
    /// It runs already.
    #[error(transparent)]
    Illegal(#[from] IllegalMove),
    /// The owner is gone.
    #[error("report to the owner")]
    Owner(#[from] owner::Error),
}

impl<'a> EventLoop<'a> {
    /// A loop over `slots`, the threads `vcpus` behind `inbox`, and `owner`.
    pub(crate) fn new(
        inbox: Inbox,
        owner: &'a mut Owner,
        slots: Slots,
        vcpus: Vcpus,
    ) -> io::Result<Self> {
        let (poller, quiet_poller) = (Poller::new()?, Poller::new()?);
        for each in [&poller, &quiet_poller] {
            each.watch_input(inbox.wake(), Source::Inbox)?;
            each.watch_input(owner, Source::Owner)?;
        }
        Ok(Self {
            lifecycle: Lifecycle::new(),
            vcpus,
            parking_limit: PARKING_LIMIT,
            poller,
            quiet_poller,
            inbox,
            owner,
            slots,
        })
    }

    /// Reports to the owner that the guest is about to run.
    pub(crate) fn announce(&mut self) -> Result<(), AnnounceError> {
        self.lifecycle.enter(State::Running)?;
        Ok(self.owner.report(&Report::Running)?)
    }

    /// Serves the machine until it ends, and reports why.
    pub(crate) fn run(mut self) -> Exit {
        let reason = match self.serve() {
            End::Exit(exit) => exit,
            End::Wait(error) => failed(&error),
            End::Device(error) => failed(&error),
            End::Owner(error) => failed(&error),
        };
        // From every state.
        self.lifecycle.enter(State::Stopped).ok();
        let report = Report::Exit {
            reason: reason.clone(),
        };
        // A dead owner needs no report.
        self.owner.report(&report).ok();
        reason
    }

    fn serve(&mut self) -> End {
        loop {
            let served = self.take_turn().and_then(|asked| match asked {
                Some(change) => self.change(change),
                None => Ok(()),
            });
            if let Err(end) = served {
                return end;
            }
        }
    }

    /// Serves what is ready. A change of the machine's state that was asked for is returned,
    /// not made: what else was ready has to be served before it.
    fn take_turn(&mut self) -> Result<Option<Change>, End> {
        let Self {
            lifecycle,
            poller,
            quiet_poller,
            inbox,
            owner,
            slots,
            ..
        } = self;
        let waiting = match lifecycle.state() {
            State::Paused => quiet_poller,
            State::Starting | State::Running | State::Stopped => &*poller,
        };
        let mut asked = None;
        waiting.wait(|source, readiness| match source {
            Source::Inbox => read_inbox(inbox, slots, poller),
            Source::Owner => {
                asked = serve_owner(owner, slots, poller)?;
                Ok(())
            }
            Source::Kick { slot, queue } => Ok(slots.kicked(slot, queue, poller)?),
            Source::Device { slot, token } => Ok(slots.ready(slot, token, readiness, poller)?),
        })?;
        Ok(asked)
    }

    fn change(&mut self, change: Change) -> Result<(), End> {
        let changed = match change {
            Change::Pause => self.pause(),
            Change::Resume => self.resume(),
        };
        let report = match changed {
            Ok(()) => Report::Done { slot: None },
            Err(ChangeError::End(end)) => return Err(end),
            Err(error) => refused(chain(&error)),
        };
        Ok(self.owner.report(&report)?)
    }

    fn pause(&mut self) -> Result<(), ChangeError> {
        self.lifecycle.check(State::Paused)?;
        let parked = self.park_vcpus();
        if parked.is_err() {
            self.vcpus.unpark();
        }
        parked?;
        self.slots.pause(&self.poller).map_err(End::Device)?;
        Ok(self.lifecycle.enter(State::Paused)?)
    }

    /// Waits until all vCPUs are parked. Their register writes of before are served
    /// meanwhile, since they wait for that.
    fn park_vcpus(&mut self) -> Result<(), ChangeError> {
        let round = self.vcpus.park();
        let deadline = Instant::now() + self.parking_limit;
        let mut parked = 0;
        while parked < self.vcpus.count() {
            match self.inbox.next_before(deadline) {
                Some(Message::Parked { round: of }) if of == round => parked += 1,
                Some(message) => take_message(message, &mut self.slots, &self.poller)?,
                None => {
                    return Err(ChangeError::NotParked {
                        running: self.vcpus.count() - parked,
                        limit: self.parking_limit,
                    });
                }
            }
        }
        Ok(())
    }

    fn resume(&mut self) -> Result<(), ChangeError> {
        self.lifecycle.enter(State::Running)?;
        self.slots.resume(&self.poller).map_err(End::Device)?;
        self.vcpus.unpark();
        Ok(())
    }
}

/// Takes as many messages as there can be at once. vCPUs may send as fast as they are
/// taken; others have their turn before the next.
fn read_inbox(inbox: &Inbox, slots: &mut Slots, poller: &Poller) -> Result<(), End> {
    // Only empties the count; the messages are what counts.
    inbox.wake().read().ok();
    for turn in 1.. {
        let Some(message) = inbox.next() else {
            break;
        };
        take_message(message, slots, poller)?;
        if turn == mailbox::CAPACITY {
            inbox.wake().write(1)?;
            break;
        }
    }
    Ok(())
}

fn take_message(message: Message, slots: &mut Slots, poller: &Poller) -> Result<(), End> {
    match message {
        Message::Device { slot, effect, done } => {
            slots.apply(slot, effect, poller)?;
            drop(done);
        }
        // Of a pause that was given up.
        Message::Parked { .. } => {}
        Message::Ended(exit) => return Err(End::Exit(exit)),
    }
    Ok(())
}

/// Answers the next request, or returns the change that it asks for.
fn serve_owner(
    owner: &mut Owner,
    slots: &mut Slots,
    poller: &Poller,
) -> Result<Option<Change>, End> {
    let (request, descriptors) = owner.receive()?;
    let report = match request {
        Request::Pause => return Ok(Some(Change::Pause)),
        Request::Resume => return Ok(Some(Change::Resume)),
        Request::Stop => return Err(End::Exit(Exit::Stopped)),
        Request::PlugBlock { read_only, serial } => {
            plug_block(slots, descriptors, read_only, &serial)
        }
        Request::PlugNet { mac, vhost } => plug_net(slots, descriptors, mac, vhost),
        Request::Unplug { slot } => unplug(slots, slot, poller),
    };
    owner.report(&report)?;
    Ok(None)
}

fn plug_block(slots: &mut Slots, image: Vec<OwnedFd>, read_only: bool, serial: &str) -> Report {
    let Ok([image]) = <[OwnedFd; 1]>::try_from(image) else {
        return refused("the request needs one descriptor");
    };
    match Block::new(image.into(), block::Access::read_only(read_only), serial) {
        Ok(block) => plug(slots, Box::new(block)),
        Err(error) => refused(chain(&error)),
    }
}

fn plug_net(slots: &mut Slots, mut taps: Vec<OwnedFd>, mac: [u8; 6], vhost: bool) -> Report {
    let datapath = if vhost {
        let vhosts = taps.split_off(taps.len() / 2);
        match slots.free_eventfds() {
            Some(Ok(eventfds)) => Datapath::VhostNet(vhosts, eventfds),
            Some(Err(error)) => return refused(chain(&error)),
            None => return refused("no slot is free"),
        }
    } else {
        Datapath::Userspace
    };
    match Net::new(taps, mac, datapath) {
        Ok(net) => plug(slots, Box::new(net)),
        Err(error) => refused(chain(&error)),
    }
}

fn plug(slots: &mut Slots, device: Box<dyn VirtioDevice>) -> Report {
    match slots.plug(device).map(u8::try_from) {
        Some(Ok(slot)) => Report::Done { slot: Some(slot) },
        _ => refused("no slot is free"),
    }
}

fn unplug(slots: &mut Slots, slot: u8, poller: &Poller) -> Report {
    if slots.unplug(slot.into(), poller) {
        Report::Done { slot: None }
    } else {
        refused("no device was plugged into this slot")
    }
}

fn refused(message: impl Into<String>) -> Report {
    Report::Failed {
        message: message.into(),
    }
}

fn failed(error: &dyn std::error::Error) -> Exit {
    Exit::Error {
        message: chain(error),
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Wait(error)
    }
}

impl From<device::Error> for End {
    fn from(error: device::Error) -> Self {
        Self::Device(error)
    }
}

impl From<owner::Error> for End {
    fn from(error: owner::Error) -> Self {
        Self::Owner(error)
    }
}

#[cfg(test)]
#[path = "event_loop_test.rs"]
mod tests;
