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

use std::collections::{HashMap, HashSet, hash_map::Entry};

use caisson_netlink::Socket;
use caisson_protocol::server::agent::{Interface, NetworkConfiguration, Route};

use crate::{
    failure::{Attempt, Failure, First},
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
    /// What of it has been done.
    asked: Interface,
}

impl Network {
    /// Makes the network what `wanted` says. What the kernel refuses keeps nothing else
    /// away, and is tried again by the next call.
    ///
    /// # Errors
    /// The first thing that the kernel refuses.
    pub(crate) fn configure(
        &mut self,
        wanted: NetworkConfiguration,
        transport: &Transport,
    ) -> Result<(), Failure> {
        let socket = Socket::open().doing("open a netlink socket")?;
        let mut steps = First::default();
        self.let_go(&wanted, &mut steps);
        for interface in &wanted.interfaces {
            steps.done(self.set_interface(&socket, interface));
        }
        self.set_routes(&socket, &wanted, &mut steps);
        for server in &wanted.name_servers {
            if !self.answered.contains(server) && steps.done(names::answer_for(server, transport)) {
                self.answered.insert(server.clone());
            }
        }
        self.asked = wanted;
        steps.outcome()
    }

    /// Lets go of the interfaces that are wanted no more.
    fn let_go(&mut self, wanted: &NetworkConfiguration, steps: &mut First) {
        let named = |mac: &Vec<u8>| wanted.interfaces.iter().any(|one| one.device_mac == *mac);
        self.plugged
            .retain(|mac, plugged| named(mac) || !steps.done(plugged.device.let_go()));
    }

    /// Sets routes and rules, once interfaces and addresses are there.
    fn set_routes(&self, socket: &Socket, wanted: &NetworkConfiguration, steps: &mut First) {
        let index_of = |name: &str| {
            let mut all = self.plugged.values();
            let found = all.find(|one| one.asked.name == name);
            found.map_or_else(|| interface::index_of(name), |one| Some(one.index))
        };
        let before = &self.asked;
        let old = before.routes.iter();
        for route in old.filter(|route| !wanted.routes.contains(route)) {
            routes::remove(socket, route, index_of);
        }
        let is_off = |route: &Route| {
            let mut hops = route.next_hops.iter();
            route.ipv6 && hops.any(|hop| interface::ipv6_is_off(&hop.interface))
        };
        for route in wanted.routes.iter().filter(|route| !is_off(route)) {
            // All of them: the kernel forgets some when an address goes.
            steps.done(routes::add(socket, route, index_of));
        }
        let old = before.rules.iter();
        for rule in old.filter(|rule| !wanted.rules.contains(rule)) {
            routes::remove_rule(socket, rule);
        }
        for rule in &wanted.rules {
            steps.done(routes::add_rule(socket, rule));
        }
    }

    fn set_interface(&mut self, socket: &Socket, wanted: &Interface) -> Result<(), Failure> {
        let plugged = match self.plugged.entry(wanted.device_mac.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(Plugged::find(socket, wanted)?),
        };
        interface::change(socket, plugged.index, &mut plugged.asked, wanted)
    }
}

impl Plugged {
    /// Finds the interface's device and brings it up. It has no addresses yet.
    fn find(socket: &Socket, wanted: &Interface) -> Result<Self, Failure> {
        let (device, name) = Device::find(&wanted.device_mac)?;
        let begun = interface::begin(socket, name, wanted);
        match begun {
            Ok((index, asked)) => Ok(Self {
                device,
                index,
                asked,
            }),
            Err(failure) => {
                // The first error is the one that tells.
                drop(device.let_go());
                Err(failure)
            }
        }
    }
}
