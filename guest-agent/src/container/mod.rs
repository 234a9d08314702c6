//! Making a container: one file per step, in the order in which they run.
//!
//! `launch` runs in the agent; `setup` in the processes it makes, which use the
//! rest. Nothing here outlives the making: what exists then is a `Process` in a
//! `Container` of the guest.

pub(crate) mod spec;

pub(crate) mod launch;
pub(crate) mod setup;

pub(crate) mod container_namespaces;
mod handshake;
mod id_map;
pub(crate) mod namespaces;

mod copy_up;
mod file_system;
mod mount_options;
mod mounts;
mod root_overlay;
mod rootfs;

mod descriptors;
mod devices;
mod paths;
pub(crate) mod settings;

mod capabilities;
mod identity;
mod rlimits;
mod scheduling;
pub(crate) mod seccomp;

mod hooks;
mod program;
mod terminal;
