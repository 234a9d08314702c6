//! The thread of the devices: waits for vCPUs, owner, queues and device descriptors,
//! and does one thing at a time.

use std::io;
use std::os::fd::OwnedFd;

use crate::control::{Exit, Report, Request};
use crate::mailbox::{self, Inbox, Message};
use crate::owner::{self, Owner};
use crate::poller::{Poller, Source};
use crate::slots::Slots;
use crate::virtio::block::{self, Block};
use crate::virtio::device::{self, VirtioDevice};
use crate::virtio::net::{Mover, Net};

/// Everything the thread owns.
pub(crate) struct EventLoop<'a> {
    poller: Poller,
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

impl<'a> EventLoop<'a> {
    /// A loop over `slots`, vCPUs behind `inbox`, and `owner`.
    pub(crate) fn new(inbox: Inbox, owner: &'a mut Owner, slots: Slots) -> io::Result<Self> {
        let poller = Poller::new()?;
        poller.watch_input(inbox.wake(), Source::Inbox)?;
        poller.watch_input(owner, Source::Owner)?;
        Ok(Self {
            poller,
            inbox,
            owner,
            slots,
        })
    }

    /// Tells the owner that the guest is about to run.
    pub(crate) fn announce(&mut self) -> Result<(), owner::Error> {
        self.owner.report(&Report::Running)
    }

    /// Serves the machine until it ends, and reports why.
    pub(crate) fn run(mut self) -> Exit {
        let reason = match self.serve() {
            End::Exit(exit) => exit,
            End::Wait(error) => failed(&error),
            End::Device(error) => failed(&error),
            End::Owner(error) => failed(&error),
        };
        let report = Report::Exit {
            reason: reason.clone(),
        };
        // A dead owner needs no report.
        self.owner.report(&report).ok();
        reason
    }

    fn serve(&mut self) -> End {
        let Self {
            poller,
            inbox,
            owner,
            slots,
        } = self;
        loop {
            let served = poller.wait(|source, readiness| match source {
                Source::Inbox => read_inbox(inbox, slots, poller),
                Source::Owner => serve_owner(owner, slots, poller),
                Source::Kick { slot, queue } => Ok(slots.kicked(slot, queue, poller)?),
                Source::Device { slot, token } => Ok(slots.ready(slot, token, readiness, poller)?),
            });
            if let Err(end) = served {
                return end;
            }
        }
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
        match message {
            Message::Device { slot, effect, done } => {
                slots.carry_out(slot, effect, poller)?;
                drop(done);
            }
            Message::Ended(exit) => return Err(End::Exit(exit)),
        }
        if turn == mailbox::CAPACITY {
            inbox.wake().write(1)?;
            break;
        }
    }
    Ok(())
}

fn serve_owner(owner: &mut Owner, slots: &mut Slots, poller: &Poller) -> Result<(), End> {
    let (request, descriptors) = owner.receive()?;
    let report = match request {
        Request::Stop => return Err(End::Exit(Exit::Stopped)),
        Request::PlugBlock { read_only, serial } => {
            plug_block(slots, descriptors, read_only, &serial)
        }
        Request::PlugNet { mac, vhost } => plug_net(slots, descriptors, mac, vhost),
        Request::Unplug { slot } => unplug(slots, slot, poller),
    };
    owner.report(&report)?;
    Ok(())
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
    let mover = if vhost {
        let vhosts = taps.split_off(taps.len() / 2);
        match slots.free_lines() {
            Some(Ok(lines)) => Mover::Kernel(vhosts, lines),
            Some(Err(error)) => return refused(chain(&error)),
            None => return refused("no slot is free"),
        }
    } else {
        Mover::Own
    };
    match Net::new(taps, mac, mover) {
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

/// The error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
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
