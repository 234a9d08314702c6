//! The container's own address, dialled in its network namespace on the host by
//! programs without CAP_BPF: Podman's rootlessport under slirp4netns does so for each
//! connection to a published port.
//!
//! ```text
//! program -> lo, own address --mirred--> relay tap -> here: source := ALIAS
//!                                        relay tap --mirred--> tap -> guest
//! guest -> tap, to ALIAS --mirred--> relay tap -> here: target := own address
//!                                        relay tap -> the namespace's own stack
//! ```
//! Owns the relay's tap, its filters beside it and its thread. What becomes of one
//! frame is `readdress`'s business; the filters on `lo` are `redirect`'s.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use caisson_netlink::Socket;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe;

use crate::network::Mac;
use crate::network::error::Error;
use crate::network::readdress::{ALIAS, Ends};
use crate::network::redirect;
use crate::network::redirect::Match;
use crate::network::scan::{self, Link};
use crate::network::tap;
use crate::network::tap::Tap;
use crate::sys::TAP_HEADER_LEN;

const HEADER_LEN: usize = TAP_HEADER_LEN.unsigned_abs() as usize;
/// The longest packet of IPv4 with the headers before it.
const MAX_FRAME_LEN: usize = HEADER_LEN + 14 + 65_535;

/// The relay of one interface; ends when it is dropped.
#[derive(Debug)]
pub(super) struct Relay {
    /// Number of its tap.
    pub(super) index: u32,
    own: Arc<Mutex<Vec<Ipv4Addr>>>,
    /// The thread ends with it.
    _life: OwnedFd,
}

impl Relay {
    /// Begins for `link`, whose traffic the tap of this number carries. Until addresses
    /// are set, nothing passes.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn begin(socket: &Socket, link: &Link, tap: u32) -> Result<Self, Error> {
        let failed = |source| Error::Redirect {
            name: link.described(),
            source,
        };
        let Ok(guest) = link.mac.as_slice().try_into() else {
            return Err(failed(io::ErrorKind::InvalidData.into()));
        };
        let relay_tap = Tap::make(1)?;
        let index = relay_tap.index;
        let (name, mac) = name_and_mac(socket, index).map_err(failed)?;
        accept_own_addresses(&name).map_err(failed)?;
        tap::bring_up(socket, index, link.mtu).map_err(failed)?;
        // Reverse paths are looked up only for interfaces with an address.
        tap::add_address(socket, index, ALIAS).map_err(failed)?;
        redirect::add_matching(socket, index, Match::Source(ALIAS), tap).map_err(failed)?;
        redirect::add_matching(socket, tap, Match::Target(ALIAS), index).map_err(failed)?;
        let own = Arc::new(Mutex::new(Vec::new()));
        let (end, life) = pipe().map_err(|errno| failed(errno.into()))?;
        let mut work = Work {
            ends: Ends::new(guest, mac),
            own: Arc::clone(&own),
            end,
        };
        let [queue] = <[OwnedFd; 1]>::try_from(relay_tap.queues)
            .map_err(|_| failed(io::ErrorKind::InvalidData.into()))?;
        std::thread::Builder::new()
            .name("relay".to_owned())
            .stack_size(STACK_LEN)
            .spawn(move || work.run(&File::from(queue)))
            .map_err(failed)?;
        Ok(Self {
            index,
            own,
            _life: life,
        })
    }

    /// The addresses that are the container's and the namespace's alike.
    pub(super) fn set_addresses(&self, addresses: Vec<Ipv4Addr>) {
        *self.own.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }
}

/// Of the interface with this number.
fn name_and_mac(socket: &Socket, index: u32) -> io::Result<(String, Mac)> {
    let mut links = scan::links(socket)?.into_iter();
    let link = links.find(|link| link.index == index);
    let found = link.and_then(|link| Some((link.name, Mac::try_from(link.mac.as_slice()).ok()?)));
    found.ok_or_else(|| io::ErrorKind::NotFound.into())
}

const STACK_LEN: usize = 64 * 1024;

/// What arrives on the relay's tap has an address of this host as its source, which the
/// kernel otherwise takes for forged (ip-sysctl: accept_local, rp_filter). The files are
/// those of the calling thread's namespace.
fn accept_own_addresses(name: &str) -> io::Result<()> {
    let settings = format!("/proc/sys/net/ipv4/conf/{name}");
    fs::write(format!("{settings}/accept_local"), "1")?;
    fs::write(format!("{settings}/rp_filter"), "2")
}

struct Work {
    ends: Ends,
    own: Arc<Mutex<Vec<Ipv4Addr>>>,
    end: OwnedFd,
}

impl Work {
    fn run(&mut self, mut tap: &File) {
        let mut buffer = vec![0; MAX_FRAME_LEN];
        while let Ok(true) = self.wait(tap) {
            let length = match tap.read(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                // The namespace is gone.
                Err(_) => return,
            };
            let Some((header, frame)) = buffer
                .get_mut(..length)
                .and_then(|packet| packet.split_at_mut_checked(HEADER_LEN))
            else {
                continue;
            };
            // Nothing is left for the receiver to complete.
            header.fill(0);
            let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
            let passes = self.ends.readdress(frame, &own);
            drop(own);
            if passes {
                // A frame that finds no room is lost, as on any network.
                tap.write_all(buffer.get(..length).unwrap_or_default()).ok();
            }
        }
    }

    /// Returns whether there may be a frame, once there is one or the relay has ended.
    fn wait(&self, tap: &File) -> nix::Result<bool> {
        let mut watched = [
            PollFd::new(tap.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.end.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut watched, PollTimeout::NONE)?;
        let [_, end] = watched;
        Ok(end.revents().is_none_or(|events| events.is_empty()))
    }
}
