//! The machine's network: interfaces, addresses, routes, rules.
//!
//! Owns what the host has asked for so far, and the way from there to what it asks
//! for now. `devices` binds and lets go of the virtual hardware, `interface` and
//! `routes` speak to the kernel, `names` answers for name servers of the host's
//! loopback, and `local` lets the host reach ours. What containers change themselves is left alone.

mod devices;
mod interface;
mod local;
mod names;
mod routes;

use std::collections::{HashMap, HashSet};

use caisson_netlink::Socket;
use caisson_protocol::server::agent::{Interface, NetworkConfiguration, Route};

use crate::{
    failure::{Attempt, Failure},
    transport::Transport,
};

use devices::Device;
pub(crate) use devices::put_devices_away;
pub(crate) use local::connect_local;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// By the hardware address each was plugged with.
    plugged: HashMap<Vec<u8>, Plugged>,
    asked: NetworkConfiguration,
    /// Name servers that are answered for, until the machine ends.
    answered: HashSet<Vec<u8>>,
}

/// An interface that is there.
#[derive(Debug)]
struct Plugged {
    device: Device,
    index: u32,
    asked: Interface,
}

impl Network {
    /// Makes the network what `wanted` says. After an error it is in between, and the
    /// next call goes on from there.
    ///
    /// # Errors
    /// The first thing that the kernel refuses.
    pub(crate) fn configure(
        &mut self,
        wanted: NetworkConfiguration,
        transport: &Transport,
    ) -> Result<(), Failure> {
        let socket = Socket::open().doing("open a netlink socket")?;
        let named = |mac: &Vec<u8>| wanted.interfaces.iter().any(|one| one.device_mac == *mac);
        let gone: Vec<Vec<u8>> = self
            .plugged
            .keys()
            .filter(|mac| !named(mac))
            .cloned()
            .collect();
        for mac in gone {
            if let Some(plugged) = self.plugged.remove(&mac) {
                plugged.device.let_go()?;
            }
        }
        for interface in &wanted.interfaces {
            self.set_interface(&socket, interface)?;
        }
        let index_of = |name: &str| {
            let mut all = self.plugged.values();
            let found = all.find(|one| one.asked.name == name);
            found.map_or_else(|| interface::index_of(name), |one| Some(one.index))
        };
        let before = std::mem::take(&mut self.asked);
        let old = before.routes.iter();
        for route in old.filter(|route| !wanted.routes.contains(route)) {
            routes::remove(&socket, route, index_of);
        }
        let is_off = |route: &Route| {
            let mut hops = route.next_hops.iter();
            route.ipv6 && hops.any(|hop| interface::ipv6_is_off(&hop.interface))
        };
        for route in wanted.routes.iter().filter(|route| !is_off(route)) {
            // All of them: the kernel forgets some when an address goes.
            routes::add(&socket, route, index_of)?;
        }
        let old = before.rules.iter();
        for rule in old.filter(|rule| !wanted.rules.contains(rule)) {
            routes::remove_rule(&socket, rule);
        }
        for rule in &wanted.rules {
            routes::add_rule(&socket, rule)?;
        }
        for server in &wanted.name_servers {
            if self.answered.insert(server.clone()) {
                names::answer_for(server, transport)?;
            }
        }
        self.asked = wanted;
        Ok(())
    }

    fn set_interface(&mut self, socket: &Socket, wanted: &Interface) -> Result<(), Failure> {
        if let Some(plugged) = self.plugged.get_mut(&wanted.device_mac) {
            if plugged.asked != *wanted {
                interface::change(socket, plugged.index, &plugged.asked, wanted)?;
                plugged.asked = wanted.clone();
            }
            return Ok(());
        }
        let (device, name) = Device::find(&wanted.device_mac)?;
        let index = interface::index_of(&name)
            .ok_or_else(|| Failure::Refused(format!("interface {name} has gone")))?;
        let nothing = Interface {
            name,
            ..Default::default()
        };
        let changed = interface::change(socket, index, &nothing, wanted);
        if changed.is_err() {
            // The first error is the one that tells.
            drop(device.let_go());
            return changed;
        }
        let plugged = Plugged {
            device,
            index,
            asked: wanted.clone(),
        };
        self.plugged.insert(wanted.device_mac.clone(), plugged);
        Ok(())
    }
}
