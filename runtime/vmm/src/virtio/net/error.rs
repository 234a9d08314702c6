//! Why a network interface can't be had.

use std::io;

/// An interface can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InterfaceError {
    /// It needs one, and as many of /dev/vhost-net where that serves it.
    #[error("the request has {0} descriptors")]
    Descriptors(usize),
    /// It is none, or one without headers.
    #[error("set a tap's offloads")]
    Tap(#[source] io::Error),
    /// The host's kernel doesn't serve it.
    #[error("have the host's kernel serve the interface")]
    VhostNet(#[source] vhost::Error),
    /// Its kernel is too old.
    #[error("the host's vhost-net lacks features that are needed ({0:#x})")]
    Features(u64),
}
