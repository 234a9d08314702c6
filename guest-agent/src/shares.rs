//! Unmounting of shares that no container uses any more, while other containers run on,
//! so that the host can remove them.
//!
//! Owns no mount in a container: those go with its mount namespace. The host counts the
//! users of a share.

use std::path::{Component, Path};

use caisson_protocol::SHARE_PATH;
use rustix::mount::{UnmountFlags, unmount};

/// Unmounts the shares at `paths`. The kernel mounts one again when its path is next
/// looked up.
pub(crate) fn unmount_all(paths: &[String]) {
    let is_plain = |path: &&Path| {
        let mut parts = path.components();
        parts.all(|part| matches!(part, Component::Normal(_)))
    };
    for share in paths.iter().map(Path::new).filter(is_plain) {
        let share = Path::new(SHARE_PATH).join(share);
        // A file is no mount, and a share whose path was never looked up is not mounted.
        unmount(&share, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).unwrap_or_default();
    }
}
