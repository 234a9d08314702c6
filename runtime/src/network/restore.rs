//! Giving a namespace back after an owner that could not do so itself.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use caisson_netlink::Socket;
use nix::sched::{CloneFlags, setns};

use crate::network::error::Error;
use crate::network::redirect;
use crate::network::redirect::Ingress;
use crate::network::scan::Picture;
use crate::network::tap;

/// Removes from the namespace at `path` redirects to taps that are gone, or that an
/// owner which has ended is just letting go of. A namespace that can't be entered, or
/// is no more, has none.
///
/// # Errors
/// When a redirect can't be removed.
pub fn restore(path: &Path, owner: i32) -> Result<(), Error> {
    let Ok(namespace) = File::open(path) else {
        return Ok(());
    };
    // In a thread: the caller stays where it is.
    let work = move || {
        if setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).is_err() {
            return Ok(());
        }
        remove_stale(&tap::name_start(owner))
    };
    std::thread::spawn(work).join().unwrap_or(Ok(()))
}

fn remove_stale(name_start: &str) -> Result<(), Error> {
    let socket = Socket::open().map_err(Error::Scan)?;
    let picture = Picture::take(&socket).map_err(Error::Scan)?;
    for link in &picture.links {
        let look = if picture.loopback() == Some(link.index) {
            redirect::look_at_egress
        } else {
            redirect::look
        };
        let ingress = look(&socket, link.index).map_err(Error::Scan)?;
        let lives = |tap| {
            let mut links = picture.links.iter();
            links.any(|other| other.index == tap && !other.name.starts_with(name_start))
        };
        if matches!(ingress, Ingress::Ours(tap) if !lives(tap)) {
            let removed = redirect::remove(&socket, link.index);
            removed.map_err(|source| Error::Redirect {
                name: link.name.clone(),
                source,
            })?;
        }
    }
    Ok(())
}
