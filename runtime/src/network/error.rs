//! Why a machine can't have the network of its namespace.

use std::io;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The namespace can't be read.
    #[error("read the container's network namespace")]
    Scan(#[source] io::Error),
    /// No tap can be had.
    #[error(
        "make a tap device for the container's network (it needs /dev/net/tun: `modprobe tun`, and CAP_NET_ADMIN in the network namespace; see `caisson doctor tun`)"
    )]
    Tap(#[source] io::Error),
    /// The host's kernel is to move packets, and can't be asked to.
    #[error(
        "open /dev/vhost-net, by which the host's kernel shall move the container's packets (`modprobe vhost_net` makes it; without `vhost_net = true` in the configuration it is not needed; see `caisson doctor vhost-net`)"
    )]
    Vhost(#[source] io::Error),
    /// A tap does not do what it is told.
    #[error("set up tap {name}")]
    TapSetup {
        /// The tap.
        name: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Traffic can't be led to the machine.
    #[error(
        "redirect the traffic of interface {name} (the kernel needs sch_ingress, cls_u32 and act_mirred)"
    )]
    Redirect {
        /// The interface.
        name: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Its frames don't go by hardware addresses.
    #[error(
        "interface {name} of the network namespace answers no ARP: its traffic can't be led into a machine; {fix}"
    )]
    Kind {
        /// The interface and its kind.
        name: String,
        /// What to use instead.
        fix: &'static str,
    },
    /// Another machine has it.
    #[error(
        "interface {0} of the network namespace belongs to another container of caisson: two machines can't share an interface; give each container a network of its own"
    )]
    InUse(String),
    /// Somebody else does something with its traffic.
    #[error(
        "interface {0} of the network namespace has an ingress qdisc already, which caisson needs for itself: remove it with `tc qdisc del dev {0} ingress`"
    )]
    Occupied(String),
    /// The machine has no place for one more.
    #[error("interface {name}: a {machine} machine has at most {most} network interfaces")]
    TooMany {
        /// The interface.
        name: String,
        /// Kind of machine.
        machine: &'static str,
        /// How many it can have.
        most: usize,
    },
    /// The machine refuses.
    #[error("plug interface {name} into the machine: {message}")]
    Plug {
        /// The interface.
        name: String,
        /// What it said.
        message: String,
    },
    /// The guest can't configure it.
    #[error("configure the network in the guest: {0}")]
    Guest(String),
    /// A namespace can't be entered.
    #[error("enter network namespace {path}")]
    Enter {
        /// The file that stands for it.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}
