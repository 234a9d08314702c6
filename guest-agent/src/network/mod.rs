//! The machine's network: interfaces, addresses, routes, rules.
//!
//! Owns the configuration that is applied, and the steps from there to the wanted one.
//! `devices` binds and unbinds the virtual hardware, `interface` and `routes` change the
//! kernel's configuration, `names` listens in place of name servers of the host's loopback, and
//! `local` connects the host to the guest's. What containers change themselves stays.

mod devices;
mod interface;
mod local;
mod names;
mod routes;

use std::collections::{HashMap, HashSet, hash_map::Entry};

use caisson_netlink::Socket;
use caisson_protocol::server::agent::{Interface, NetworkConfiguration, Route};

use crate::{
    failure::{Attempt, Failure, FirstFailure},
    transport::Transport,
};

use devices::Device;
pub(crate) use devices::unbind_devices;
use interface::InterfaceUpdate;
pub(crate) use local::connect_local;

/// The machine's network as it was last configured.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// By the hardware address each was plugged with.
    plugged: HashMap<Vec<u8>, Plugged>,
    applied: NetworkConfiguration,
    /// Addresses of the name servers in whose place the agent listens.
    served_names: HashSet<Vec<u8>>,
}

/// An interface whose device is bound.
#[derive(Debug)]
struct Plugged {
    device: Device,
    index: u32,
    /// What of its configuration is applied.
    applied: Interface,
}

impl Network {
    /// Changes the network to what is `wanted`. The rest is applied even if the kernel
    /// refuses a part, which the next call tries again.
    ///
    /// # Errors
    /// The first thing that the kernel refuses.
    pub(crate) fn configure(
        &mut self,
        wanted: NetworkConfiguration,
        transport: &Transport,
    ) -> Result<(), Failure> {
        let socket = Socket::open().step("open a netlink socket")?;
        let mut steps = FirstFailure::default();
        self.unbind_unwanted(&wanted, &mut steps);
        for interface in &wanted.interfaces {
            steps.record(self.set_interface(&socket, interface));
        }
        self.set_routes(&socket, &wanted, &mut steps);
        for server in &wanted.name_servers {
            if !self.served_names.contains(server) && steps.record(names::serve(server, transport))
            {
                self.served_names.insert(server.clone());
            }
        }
        self.applied = wanted;
        steps.outcome()
    }

    /// Unbinds the interfaces that are not wanted any more.
    fn unbind_unwanted(&mut self, wanted: &NetworkConfiguration, steps: &mut FirstFailure) {
        let named = |mac: &Vec<u8>| wanted.interfaces.iter().any(|one| one.device_mac == *mac);
        self.plugged
            .retain(|mac, plugged| named(mac) || !steps.record(plugged.device.unbind()));
    }

    /// Sets routes and rules, once interfaces and addresses are there.
    fn set_routes(&self, socket: &Socket, wanted: &NetworkConfiguration, steps: &mut FirstFailure) {
        let index_of = |name: &str| {
            let mut all = self.plugged.values();
            let found = all.find(|one| one.applied.name == name);
            found.map_or_else(|| interface::index_of(name), |one| Some(one.index))
        };
        let before = &self.applied;
        let old = before.routes.iter();
        for route in old.filter(|route| !wanted.routes.contains(route)) {
            routes::remove(socket, route, index_of);
        }
        let is_off = |route: &Route| {
            let mut hops = route.next_hops.iter();
            route.ipv6 && hops.any(|hop| interface::ipv6_is_off(&hop.interface))
        };
        for route in wanted.routes.iter().filter(|route| !is_off(route)) {
            // All of them: the kernel removes some with an address.
            steps.record(routes::add(socket, route, index_of));
        }
        let old = before.rules.iter();
        for rule in old.filter(|rule| !wanted.rules.contains(rule)) {
            routes::remove_rule(socket, rule);
        }
        for rule in &wanted.rules {
            steps.record(routes::add_rule(socket, rule));
        }
    }

    fn set_interface(&mut self, socket: &Socket, wanted: &Interface) -> Result<(), Failure> {
        let plugged = match self.plugged.entry(wanted.device_mac.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(Plugged::find(socket, wanted)?),
        };
        let update = InterfaceUpdate {
            socket,
            index: plugged.index,
            applied: &mut plugged.applied,
            wanted,
        };
        update.apply()
    }
}

impl Plugged {
    /// Finds the interface's device and brings it up. It has no addresses yet.
    fn find(socket: &Socket, wanted: &Interface) -> Result<Self, Failure> {
        let (device, name) = Device::find(&wanted.device_mac)?;
        let brought_up = interface::bring_up(socket, name, wanted);
        match brought_up {
            Ok((index, applied)) => Ok(Self {
                device,
                index,
                applied,
            }),
            Err(failure) => {
                // The first error is the one to report.
                drop(device.unbind());
                Err(failure)
            }
        }
    }
}
