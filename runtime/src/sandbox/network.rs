//! The host's side of the container's network: the namespace its owner lives in.
//!
//! Engines find it through the owner's pid and put their interfaces there.

use std::fs::File;
use std::os::fd::AsFd;

use nix::sched::{CloneFlags, setns, unshare};

use super::error::{Error, step};
use crate::plan::Network;

/// Moves this process into the planned namespace; helpers started later follow.
pub(crate) fn enter(network: &Network) -> Result<(), Error> {
    match network {
        Network::Own => unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|errno| step("make a network namespace")(errno.into())),
        Network::Join(path) => {
            let failed = |source| Error::Network {
                path: path.clone(),
                source,
            };
            let namespace = File::open(path).map_err(failed)?;
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).map_err(|errno| failed(errno.into()))
        }
    }
}
