//! The namespaces that a container's owner lives in on the host.
//!
//! Engines and hooks find them through the owner's pid: interfaces are put
//! into its network namespace, and what a hook mounts below the root file
//! system in its mount namespace, the container sees.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::container::creator;
use crate::monitor::create_request::CreatorRequest;
use crate::monitor::error::Error;
use crate::oci::plan::{Network, Plan};
use crate::owner::Connection;
use crate::process::step;

/// Moves this process into the planned namespaces; helpers started later follow.
/// Ids come from the command, which stays outside.
pub(crate) fn enter(plan: &Plan, caller: &Connection) -> Result<(), Error> {
    if plan.identities.is_some() {
        unshare(CloneFlags::CLONE_NEWUSER)
            .map_err(|errno| step("make a user namespace")(errno.into()))?;
        creator::ask(caller, CreatorRequest::MapIdentities).map_err(Error::CreatorRequest)?;
    }
    // Only who owns a mount namespace may cut shares out of it.
    if plan.identities.is_some() || plan.hooks.may_mount() {
        enter_mounts()?;
    }
    enter_network(&plan.network)
}

fn enter_network(network: &Network) -> Result<(), Error> {
    match network {
        Network::Own => unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|errno| step("make a network namespace")(errno.into()))
            .map_err(Into::into),
        Network::Join(path) => {
            let failed = |source| Error::Network {
                path: path.clone(),
                source,
            };
            let namespace = File::open(path).map_err(failed)?;
            if is_the_hosts(&namespace).map_err(failed)? {
                return Err(Error::HostNetwork(path.clone()));
            }
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).map_err(|errno| failed(errno.into()))
        }
    }
}

/// Whether it is that of whoever creates the container, or of the host's init.
fn is_the_hosts(namespace: &File) -> io::Result<bool> {
    let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
    let wanted = identity(namespace.metadata()?);
    // Init's can't be seen by everybody.
    let hosts = ["/proc/self/ns/net", "/proc/1/ns/net"];
    let known = hosts.into_iter().filter_map(|path| fs::metadata(path).ok());
    Ok(known.map(identity).any(|known| known == wanted))
}

/// The host's mounts and unmounts are followed; none made here reaches the host.
fn enter_mounts() -> Result<(), Error> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none))
        .map_err(|errno| step("make a mount namespace")(errno.into()))
        .map_err(Into::into)
}
