//! The network of a container: what engines put into its namespace on the host, made
//! to work inside of the machine.
//!
//! ```text
//! host | veth <-- tc redirect, both ways --> tap | caisson-vmm | virtio-net: guest
//! ```
//! `scan` reads a namespace as plain data, `tap` and `redirect` lay the wire beside
//! each interface, `uplink` keeps machine and namespace in step. `names` and
//! `forward` carry what lives on loopback, either way; where `forward` isn't allowed,
//! `relay` carries what is for the container's own address. Everything here runs
//! in the namespace itself: its owner lives in it.

mod error;
pub(crate) mod forward;
pub(crate) mod names;
mod readdress;
mod redirect;
mod relay;
mod restore;
mod routes;
mod scan;
mod tap;
mod uplink;

pub use error::Error;
pub use restore::restore;
pub(crate) use tap::Tap;
pub(crate) use uplink::{CHANGES, Nic, Nics, Uplink};

/// A hardware address.
pub(crate) type Mac = [u8; 6];
