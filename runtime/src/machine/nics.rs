//! Network devices of both kinds of machine.
//!
//! On KVM a device is made when it is needed, and plugged into an empty slot. QEMU's
//! slots can't be filled while it runs, so there a few devices are made with the
//! machine and wait, hidden by the agent, each with its tap.

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
pub(super) struct Plugged {
    control: OwnedFd,
    answers: Receiver<Report>,
    count: usize,
    most: usize,
}

impl Plugged {
    /// Asks on `control`; whoever reads it passes answers on to `answers`.
    pub(super) fn new(control: OwnedFd, answers: Receiver<Report>, most: u8) -> Self {
        Self {
            control,
            answers,
            count: 0,
            most: most.into(),
        }
    }

    fn ask(&self, request: &Request, tap: Option<&OwnedFd>) -> Result<Option<u8>, String> {
        let packet = serde_json::to_vec(request).map_err(|err| err.to_string())?;
        let parts = [IoSlice::new(&packet)];
        let numbers: Vec<i32> = tap.iter().map(|tap| tap.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let rights = if tap.is_some() { &rights[..] } else { &[] };
        let socket = self.control.as_raw_fd();
        sendmsg::<()>(socket, &parts, rights, MsgFlags::MSG_NOSIGNAL, None)
            .map_err(|errno| errno.to_string())?;
        match self.answers.recv_timeout(ANSWER_LIMIT) {
            Ok(Report::Done { slot }) => Ok(slot),
            Ok(Report::Failed { message }) => Err(message),
            Ok(_) | Err(_) => Err("the machine does not answer".to_owned()),
        }
    }
}

impl Nics for Plugged {
    fn plug(&mut self, name: &str, mac: Mac) -> Result<Nic, Error> {
        let name = name.to_owned();
        if self.count == self.most {
            let (machine, most) = ("kvm", self.most);
            return Err(Error::TooMany {
                name,
                machine,
                most,
            });
        }
        let tap = Tap::make()?;
        let request = Request::PlugNet { mac };
        let slot = match self.ask(&request, Some(&tap.descriptor)) {
            Ok(Some(slot)) => slot,
            Ok(None) => 0,
            Err(message) => return Err(Error::Plug { name, message }),
        };
        self.count += 1;
        Ok(Nic {
            device_mac: mac,
            tap: tap.index,
            slot,
        })
    }

    fn unplug(&mut self, nic: &Nic) -> Result<(), Error> {
        let request = Request::Unplug { slot: nic.slot };
        let name = format!("in slot {}", nic.slot);
        self.ask(&request, None)
            .map_err(|message| Error::Plug { name, message })?;
        self.count -= 1;
        Ok(())
    }
}

/// Of an emulated machine.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    free: Vec<Nic>,
    most: usize,
    /// Why there are none.
    why_none: Option<Error>,
}

impl Waiting {
    /// Up to `most` devices; the answer has a tap for each.
    pub(super) fn make(most: u8) -> (Self, Vec<(Mac, Tap)>) {
        let mut all = Self {
            most: most.into(),
            ..Self::default()
        };
        let mut taps = Vec::new();
        for slot in 0..most {
            match Tap::make() {
                Ok(tap) => {
                    // Locally administered; the guest's interface gets another.
                    let device_mac = [0x02, 0xca, 0x15, 0x50, 0, slot];
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
    fn plug(&mut self, name: &str, _mac: Mac) -> Result<Nic, Error> {
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
