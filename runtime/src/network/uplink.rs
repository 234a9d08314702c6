//! Keeps a machine's interfaces the same as those of its namespace.
//!
//! Owns what is plugged, and the order: device, wire, guest when an interface comes,
//! and back when it goes.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use caisson_netlink::Socket;
use caisson_protocol::client::agent::NetworkConfiguration;
use nix::libc;

use crate::network::error::Error;
use crate::network::redirect;
use crate::network::redirect::{Ingress, Leading};
use crate::network::relay::Relay;
use crate::network::scan::{self, Link, Picture};
use crate::network::{Mac, tap};

/// A network device that was plugged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nic {
    /// The address by which the guest finds it.
    pub(crate) device_mac: Mac,
    /// Number of its tap.
    pub(crate) tap: u32,
    /// The machine's own name for it.
    pub(crate) slot: u8,
}

/// Where network devices come from: a machine.
pub(crate) trait Nics: Send {
    /// Plugs one, or finds one that is there already, for the interface `name`. No other
    /// that the guest still has has its address.
    fn plug(&mut self, name: &str) -> Result<Nic, Error>;
    /// Takes it back; the guest has let go of it.
    fn unplug(&mut self, nic: &Nic) -> Result<(), Error>;
}

/// Sends the guest its network configuration.
pub(crate) type ConfigureGuest = Box<dyn Fn(&NetworkConfiguration) -> Result<(), String> + Send>;

/// An interface of the namespace that the machine has.
#[derive(Debug)]
struct Plugged {
    link: u32,
    mtu: u32,
    nic: Nic,
    relay: Option<Relay>,
}

/// The interfaces of one machine, and what they were when the namespace was last read.
pub(crate) struct Uplink {
    nics: Box<dyn Nics>,
    configure_guest: ConfigureGuest,
    plugged: Vec<Plugged>,
    told: NetworkConfiguration,
    complained: BTreeSet<String>,
    name_servers: Vec<Ipv4Addr>,
    /// Whether the container's own addresses are relayed from the namespace.
    relays: bool,
    led: Vec<Leading>,
}

impl Uplink {
    /// Nothing is plugged yet.
    pub(crate) fn new(nics: Box<dyn Nics>, configure_guest: ConfigureGuest) -> Self {
        Self {
            nics,
            configure_guest,
            plugged: Vec::new(),
            told: NetworkConfiguration::default(),
            complained: BTreeSet::new(),
            name_servers: Vec::new(),
            relays: false,
            led: Vec::new(),
        }
    }

    /// Servers on loopback that the guest shall answer for.
    pub(crate) fn set_name_servers(&mut self, servers: Vec<Ipv4Addr>) {
        self.name_servers = servers;
    }

    /// Has programs of the namespace reach the container by its own IPv4 addresses, from
    /// the next update on.
    pub(crate) const fn relay_own_addresses(&mut self) {
        self.relays = true;
    }

    /// Brings the machine up to date with the namespace of the calling thread. Returns
    /// lines for the log, each once.
    ///
    /// # Errors
    /// The first interface that can't be had, after all others were seen to.
    pub(crate) fn update(&mut self) -> Result<Vec<String>, Error> {
        let socket = Socket::open().map_err(Error::Scan)?;
        let picture = Picture::take(&socket).map_err(Error::Scan)?;
        let links = picture.links.iter();
        let usable: Vec<&Link> = links.filter(|link| link.is_usable()).collect();
        let stays = |one: &Plugged| usable.iter().any(|link| link.index == one.link);
        let (stay, gone) = std::mem::take(&mut self.plugged)
            .into_iter()
            .partition(stays);
        self.plugged = stay;
        let mut failed = None;
        for link in usable {
            if let Err(error) = self.connect(&socket, &picture, link) {
                failed.get_or_insert(error);
            }
        }
        let told = self.send_configuration(&picture);
        for one in gone {
            self.disconnect(&socket, &one);
        }
        told?;
        match failed {
            Some(error) => return Err(error),
            None if self.relays => self.relay(&socket, &picture)?,
            None => {}
        }
        Ok(self.complaints(&picture))
    }

    fn relay(&mut self, socket: &Socket, picture: &Picture) -> Result<(), Error> {
        let mut all = Vec::new();
        for one in &mut self.plugged {
            let link = picture.links.iter().find(|link| link.index == one.link);
            let Some(link) = link else { continue };
            if one.relay.is_none() {
                one.relay = Some(Relay::begin(socket, link, one.nic.tap)?);
            }
            let Some(relay) = &one.relay else { continue };
            let own = picture.ipv4_addresses(one.link);
            all.extend(own.iter().map(|address| Leading {
                address: *address,
                to: relay.index,
            }));
            relay.set_addresses(own);
        }
        if let (true, Some(lo)) = (all != self.led, picture.loopback()) {
            let led = redirect::lead_own_addresses(socket, lo, &all);
            led.map_err(|source| Error::Redirect {
                name: "lo".to_owned(),
                source,
            })?;
            self.led = all;
        }
        Ok(())
    }

    /// Whether the machine has any interface.
    pub(crate) fn is_connected(&self) -> bool {
        !self.plugged.is_empty()
    }

    /// Gives the namespace back as it was.
    pub(crate) fn leave(&mut self) {
        let Ok(socket) = Socket::open() else {
            return;
        };
        if !self.led.is_empty() {
            let lo = scan::links(&socket)
                .ok()
                .and_then(|links| scan::loopback(&links));
            drop(lo.map(|lo| redirect::lead_own_addresses(&socket, lo, &[])));
        }
        for one in self.plugged.drain(..) {
            // The interface may be gone, and then there is nothing to give back.
            drop(redirect::remove(&socket, one.link));
        }
    }

    fn send_configuration(&mut self, picture: &Picture) -> Result<(), Error> {
        let with_link = |one: &Plugged| {
            let link = picture.links.iter().find(|link| link.index == one.link)?;
            Some((link, one.nic.device_mac))
        };
        let plugged = self.plugged.iter().filter_map(with_link);
        let mut configuration = picture.configuration(plugged);
        if !configuration.interfaces.is_empty() {
            let servers = self.name_servers.iter();
            configuration.name_servers = servers.map(|one| one.octets().to_vec()).collect();
        }
        if configuration != self.told {
            (self.configure_guest)(&configuration).map_err(Error::Guest)?;
            self.told = configuration;
        }
        Ok(())
    }

    fn connect(&mut self, socket: &Socket, picture: &Picture, link: &Link) -> Result<(), Error> {
        let known = self.plugged.iter_mut().find(|one| one.link == link.index);
        if let Some(known) = known {
            if known.mtu != link.mtu {
                set_up_tap(socket, known.nic.tap, link)?;
                known.mtu = link.mtu;
            }
            return Ok(());
        }
        link.check()?;
        clear_the_way(socket, picture, link)?;
        let nic = self.nics.plug(&link.name)?;
        let wired = wire(socket, link, nic.tap);
        let one = Plugged {
            link: link.index,
            mtu: link.mtu,
            nic,
            relay: None,
        };
        if wired.is_err() {
            self.disconnect(socket, &one);
            return wired;
        }
        self.plugged.push(one);
        Ok(())
    }

    fn disconnect(&mut self, socket: &Socket, one: &Plugged) {
        // What is gone already needs no removal, and a dead machine no unplugging.
        drop(redirect::remove(socket, one.link));
        drop(redirect::remove(socket, one.nic.tap));
        drop(self.nics.unplug(&one.nic));
    }

    fn complaints(&mut self, picture: &Picture) -> Vec<String> {
        let names = picture.links.iter().filter(|link| {
            let mut plugged = self.plugged.iter();
            plugged.any(|one| one.link == link.index)
        });
        let names: Vec<&str> = names.map(|link| link.name.as_str()).collect();
        let mut new = picture.complaints(&names);
        new.retain(|line| self.complained.insert(line.clone()));
        new
    }
}

/// A redirect that a killed owner has left is removed; a live one is not ours.
fn clear_the_way(socket: &Socket, picture: &Picture, link: &Link) -> Result<(), Error> {
    let failed = |source| Error::Redirect {
        name: link.name.clone(),
        source,
    };
    match redirect::look(socket, link.index).map_err(failed)? {
        Ingress::Free => Ok(()),
        Ingress::Foreign => Err(Error::Occupied(link.name.clone())),
        Ingress::Ours(tap) if picture.links.iter().any(|other| other.index == tap) => {
            Err(Error::InUse(link.name.clone()))
        }
        Ingress::Ours(_) => redirect::remove(socket, link.index).map_err(failed),
    }
}

fn wire(socket: &Socket, link: &Link, tap: u32) -> Result<(), Error> {
    set_up_tap(socket, tap, link)?;
    let there = redirect::add(socket, tap, link.index);
    there
        .and_then(|()| redirect::add(socket, link.index, tap))
        .map_err(|source| Error::Redirect {
            name: link.described(),
            source,
        })
}

fn set_up_tap(socket: &Socket, index: u32, link: &Link) -> Result<(), Error> {
    tap::bring_up(socket, index, link.mtu).map_err(|source| Error::TapSetup {
        name: link.name.clone(),
        source,
    })
}

/// The changes after which [`Uplink::update`] has something to do.
pub(crate) const CHANGES: i32 = libc::RTMGRP_LINK
    | libc::RTMGRP_NEIGH
    | libc::RTMGRP_IPV4_IFADDR
    | libc::RTMGRP_IPV4_ROUTE
    | libc::RTMGRP_IPV4_RULE
    | libc::RTMGRP_IPV6_IFADDR
    | libc::RTMGRP_IPV6_ROUTE
    | RTMGRP_IPV6_RULE;
/// The group `RTNLGRP_IPV6_RULE` (19), which has no such name in linux/rtnetlink.h.
const RTMGRP_IPV6_RULE: i32 = 1 << 18;
