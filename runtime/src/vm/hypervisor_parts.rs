//! What a hypervisor makes a VM of.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use crate::config::installation::GuestImage;

/// What one machine is made of. Every descriptor is opened by the owner.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The container's private directory.
    pub(crate) directory: PathBuf,
    pub(crate) vcpus: u8,
    pub(crate) mem_mib: u32,
    pub(crate) memory: OwnedFd,
    pub(crate) image: GuestImage,
    /// Front end of the file server.
    pub(crate) fs: UnixStream,
    /// The device's end of the channel for the guest's connections.
    pub(crate) vsock_channel: OwnedFd,
    /// Where the guest's console goes.
    pub(crate) console: OwnedFd,
    /// The host's kernel moves the packets of network interfaces.
    pub(crate) vhost_net: bool,
}
