//! The control group of the host in which a container's processes live: its
//! owner, the machine and the file server.
//!
//! `place` decides where it is, as runc would; `hierarchy` knows what the host
//! has; `group` makes, fills and removes it, by `directory`, and with `systemd` over
//! `dbus` and what `property` says where that is asked for; `settings` turns the container's
//! limits into the host's, which leave room for the machine itself. The exact
//! limits are those of the guest's own cgroup, which the agent makes.

mod dbus;
mod directory;
mod error;
mod group;
mod hierarchy;
mod place;
mod property;
mod settings;
mod systemd;

pub use error::Error;
pub use group::{Established, Group};
pub use hierarchy::Version;
pub(crate) use hierarchy::{Hierarchy, Host};
pub use place::{Driver, Malformed, Place};
pub use settings::{Allowance, Files, Setting, quota, settings};
