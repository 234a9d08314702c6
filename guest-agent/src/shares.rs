//! What the host shares of a container that is gone, while others live on: the
//! guest lets go of it, so that the host can put it away.
//!
//! Owns nothing of the mounts in containers, which go with their namespaces.

use std::{fs, path::Path};

use caisson_protocol::SHARE_PATH;
use rustix::mount::{UnmountFlags, unmount};

/// Gives back each share of a container. The kernel mounts it again if it is asked for.
pub(crate) fn let_go(container_id: &str) {
    let folder = Path::new(SHARE_PATH).join(container_id);
    let binds = fs::read_dir(folder.join("mounts")).into_iter().flatten();
    let binds = binds.filter_map(|entry| Some(entry.ok()?.path()));
    for share in binds.chain([folder.join("rootfs")]) {
        // One that was never looked at is not mounted.
        unmount(&share, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).unwrap_or_default();
    }
}
