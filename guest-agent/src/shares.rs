//! What the host shares of containers that are gone, while others live on: the guest
//! lets go of it, so that the host can put it away.
//!
//! Owns nothing of the mounts in containers, which go with their namespaces, and no
//! count of users: the host knows who sees what.

use std::path::{Component, Path};

use caisson_protocol::SHARE_PATH;
use rustix::mount::{UnmountFlags, unmount};

/// Gives back the shares at `paths`. The kernel mounts one again if it is asked for.
pub(crate) fn let_go(paths: &[String]) {
    let is_plain = |path: &&Path| {
        let mut parts = path.components();
        parts.all(|part| matches!(part, Component::Normal(_)))
    };
    for share in paths.iter().map(Path::new).filter(is_plain) {
        let share = Path::new(SHARE_PATH).join(share);
        // A file is no mount, and what was never looked at is none yet.
        unmount(&share, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).unwrap_or_default();
    }
}
