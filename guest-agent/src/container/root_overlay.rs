//! A writable root in guest memory over a share that stays as it is.
//!
//! Owns the overlay (overlayfs) and the tmpfs of its upper directory. Both end with the
//! container's mount namespace, and what was written with them.

use std::{
    num::NonZeroU32,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

use nix::sched::{CloneFlags, unshare};
use rustix::{
    fs::{CWD, Mode, mkdirat},
    mount::{MountAttrFlags, MoveMountFlags, UnmountFlags, move_mount, unmount},
};

use super::{file_system, mounts};
use crate::{
    boot::ROOTFS_POINT,
    failure::{Attempt, Failure},
};

/// The directories of the tmpfs that overlayfs asks for.
const UPPER: &str = "upper";
const WORK: &str = "work";

/// A detached mount that shows the share at `root`, and keeps changes in at most `size_mib`
/// of guest memory, which count to the container's limit. The calling process has one
/// thread, and gets a mount namespace of its own: overlayfs takes no detached mounts, and
/// so others don't see where these are attached meanwhile.
///
/// # Errors
/// The kernel's refusal.
pub(super) fn make(root: &Path, size_mib: NonZeroU32) -> Result<OwnedFd, Failure> {
    unshare(CloneFlags::CLONE_NEWNS).step("make a mount namespace for the root overlay")?;
    // No link in the share leads elsewhere: it is looked up as any other root is.
    let share = mounts::open_shared(root).at("open the root", root)?;
    let changes = make_tmpfs(size_mib).step("make the memory of the root overlay")?;
    let empty_path = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&changes, "", CWD, ROOTFS_POINT, empty_path).at("mount", ROOTFS_POINT)?;
    let overlay = make_overlay(&share).step("mount the root overlay");
    unmount(ROOTFS_POINT, UnmountFlags::DETACH).at("unmount", ROOTFS_POINT)?;
    overlay
}

fn make_tmpfs(size_mib: NonZeroU32) -> rustix::io::Result<OwnedFd> {
    let size = format!("{size_mib}m");
    let parameters = [("source", "caisson"), ("size", &size)];
    let mount = file_system::make_plain("tmpfs", &parameters, MountAttrFlags::empty())?;
    for directory in [UPPER, WORK] {
        mkdirat(&mount, directory, Mode::from_raw_mode(0o755))?;
    }
    Ok(mount)
}

fn make_overlay(share: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let lower = format!("/proc/self/fd/{}", share.as_raw_fd());
    let [upper, work] = [UPPER, WORK].map(|name| format!("{ROOTFS_POINT}/{name}"));
    let parameters = [
        ("source", "overlay"),
        ("lowerdir", lower.as_str()),
        ("upperdir", &upper),
        ("workdir", &work),
    ];
    file_system::make_plain("overlay", &parameters, MountAttrFlags::empty())
}
