//! The file server of caisson, `caisson-fs`: serves directories and files that it is
//! given as detached mounts to a guest over vhost-user-fs, and can reach nothing
//! else. The file system itself is the `virtiofsd` crate; this crate owns the
//! confinement, the assembly of the served tree and the choice of options.
//!
//! The owner of the server uses [`spec`] to describe its work and [`socket`] to
//! connect it with the machine.

#[cfg(feature = "server")]
pub mod server;
pub mod socket;
pub mod spec;
