//! Network devices of both kinds of machine.
//!
//! On KVM a device is made when it is needed, and plugged into an empty slot. QEMU's
//! slots can't be filled while it runs, so there a few devices are made with the
//! machine and wait, hidden by the agent, each with its tap.

use std::fs::OpenOptions;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use caisson_vmm::control::{Report, Request};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::network::{Error, Mac, Nic, Nics, Tap};

/// The machine answers as soon as its event loop turns.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Of a machine on KVM.
#[derive(Debug)]
pub(crate) struct Plugged {
    control: OwnedFd,
    answers: Receiver<Report>,
    count: usize,
    /// How many there have been.
    made: u16,
    offer: Offer,
    limit: Duration,
    /// Once an answer has not come it can't be told from later ones.
    lost: bool,
}

/// What interfaces of a machine can be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer {
    /// How many there can be.
    pub(crate) most: u8,
    /// Pairs of queues of each.
    pub(crate) queue_pairs: u8,
    /// The host's kernel moves their packets.
    pub(crate) vhost: bool,
}

impl Plugged {
    /// Asks on `control`; whoever reads it passes answers on to `answers`.
    pub(crate) fn new(control: OwnedFd, answers: Receiver<Report>, offer: Offer) -> Self {
        Self {
            control,
            answers,
            count: 0,
            made: 0,
            offer,
            limit: ANSWER_LIMIT,
            lost: false,
        }
    }

    fn ask(&mut self, request: &Request, descriptors: &[OwnedFd]) -> Result<Option<u8>, String> {
        if self.lost {
            return Err("the machine has not answered before: interfaces that come and go are followed no more until the container is started anew".to_owned());
        }
        let packet = serde_json::to_vec(request).map_err(|err| err.to_string())?;
        let parts = [IoSlice::new(&packet)];
        let numbers: Vec<i32> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        // What nobody has asked for is no answer to this.
        self.answers.try_iter().for_each(drop);
        let rights = [ControlMessage::ScmRights(&numbers)];
        let rights = if numbers.is_empty() { &[] } else { &rights[..] };
        let socket = self.control.as_raw_fd();
        sendmsg::<()>(socket, &parts, rights, MsgFlags::MSG_NOSIGNAL, None)
            .map_err(|errno| errno.to_string())?;
        match self.answers.recv_timeout(self.limit) {
            Ok(Report::Done { slot }) => Ok(slot),
            Ok(Report::Failed { message }) => Err(message),
            Ok(_) | Err(_) => {
                self.lost = true;
                Err("the machine does not answer".to_owned())
            }
        }
    }

    /// `descriptors` are the queues of the tap of this number, and what serves them.
    fn plug_tap(&mut self, name: String, tap: u32, descriptors: &[OwnedFd]) -> Result<Nic, Error> {
        let (mac, vhost) = (device_mac(self.made), self.offer.vhost);
        self.made = self.made.wrapping_add(1);
        let request = Request::PlugNet { mac, vhost };
        let slot = match self.ask(&request, descriptors) {
            Ok(Some(slot)) => slot,
            Ok(None) => 0,
            Err(message) => return Err(Error::Plug { name, message }),
        };
        self.count += 1;
        Ok(Nic {
            device_mac: mac,
            tap,
            slot,
        })
    }
}

impl Nics for Plugged {
    fn plug(&mut self, name: &str) -> Result<Nic, Error> {
        let name = name.to_owned();
        let Offer {
            most,
            queue_pairs,
            vhost,
        } = self.offer;
        if self.count == usize::from(most) {
            let (machine, most) = ("kvm", most.into());
            return Err(Error::TooMany {
                name,
                machine,
                most,
            });
        }
        let Tap { index, mut queues } = Tap::make(queue_pairs)?;
        if vhost {
            for _ in 0..queues.len() {
                queues.push(open_vhost()?);
            }
        }
        self.plug_tap(name, index, &queues)
    }

    fn unplug(&mut self, nic: &Nic) -> Result<(), Error> {
        let request = Request::Unplug { slot: nic.slot };
        let name = format!("in slot {}", nic.slot);
        self.ask(&request, &[])
            .map_err(|message| Error::Plug { name, message })?;
        self.count -= 1;
        Ok(())
    }
}

/// Address of the device of this number, locally administered. The guest tells devices
/// apart by it, which interfaces of the host may share theirs (ipvlan), or have that of
/// one that has just gone; its interface gets theirs.
fn device_mac(number: u16) -> Mac {
    let [high, low] = number.to_be_bytes();
    [0x02, 0xca, 0x15, 0x50, high, low]
}

fn open_vhost() -> Result<OwnedFd, Error> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/vhost-net")
        .map_err(Error::Vhost)?;
    Ok(file.into())
}

/// Of an emulated machine.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    free: Vec<Nic>,
    most: usize,
    /// Why there are none.
    why_none: Option<Error>,
}

impl Waiting {
    /// Up to `most` devices, each with so many pairs of queues; the answer has a tap for
    /// each.
    pub(crate) fn make(most: u8, queue_pairs: u8) -> (Self, Vec<(Mac, Tap)>) {
        let mut all = Self {
            most: most.into(),
            ..Self::default()
        };
        let mut taps = Vec::new();
        for slot in 0..most {
            match Tap::make(queue_pairs) {
                Ok(tap) => {
                    let device_mac = device_mac(slot.into());
                    all.free.push(Nic {
                        device_mac,
                        tap: tap.index,
                        slot,
                    });
                    taps.push((device_mac, tap));
                }
                // A container without network needs none.
                Err(error) => all.why_none = Some(error),
            }
        }
        (all, taps)
    }
}

impl Nics for Waiting {
    fn plug(&mut self, name: &str) -> Result<Nic, Error> {
        if let Some(error) = self.why_none.take() {
            return Err(error);
        }
        self.free.pop().ok_or_else(|| Error::TooMany {
            name: name.to_owned(),
            machine: "tcg",
            most: self.most,
        })
    }

    fn unplug(&mut self, nic: &Nic) -> Result<(), Error> {
        self.free.push(nic.clone());
        Ok(())
    }
}

#[cfg(test)]
#[path = "nics_test.rs"]
mod tests;
