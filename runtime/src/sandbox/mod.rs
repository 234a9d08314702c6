//! The resident owner of one machine and of the container in it.
//!
//! `order` is what it is told, `monitor` its life from boot to exit, `boot`
//! the way up, `insistence` the way down where a guest does not go it. The rest are
//! its parts: `program` spawns confined helpers, `share` cuts out what the guest may
//! see, `streams` takes the guest's connections, `agent` speaks to the guest over its `link` and reads its `answers`,
//! `requests` answers other commands, `network` keeps up with the namespace,
//! `followers` are told what happens, `lingering` are the relays of late output, `clock` keeps the guest's time, `tail` keeps the
//! last words of everyone, `panic_note` finds those of a kernel that had no console
//! yet, `view` is what engines see of the container by its pid.

mod agent;
pub mod answers;
mod boot;
mod clock;
mod error;
mod folder;
mod followers;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod insistence;
mod limits;
mod lingering;
mod link;
mod member;
mod member_network;
mod members;
mod memory;
mod monitor;
mod mount_point;
mod mountinfo;
mod namespaces;
mod network;
mod order;
mod overlay;
mod panic_note;
mod patience;
pub(crate) mod program;
mod refusal;
mod requests;
mod served;
mod share;
pub(crate) mod socket;
mod streams;
mod submounts;
pub(crate) mod tail;
mod thread;
mod view;
mod wire_format;

pub use error::Error;
pub use monitor::run;
pub use order::{Home, Order, Outcome, Word};
