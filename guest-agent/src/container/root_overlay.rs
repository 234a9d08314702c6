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
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
        fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
    },
};

use super::mounts;
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
    let file_system = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&file_system, "source", "caisson")?;
    fsconfig_set_string(&file_system, "size", format!("{size_mib}m"))?;
    fsconfig_create(&file_system)?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    let mount = fsmount(&file_system, flags, MountAttrFlags::empty())?;
    for directory in [UPPER, WORK] {
        mkdirat(&mount, directory, Mode::from_raw_mode(0o755))?;
    }
    Ok(mount)
}

fn make_overlay(share: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let lower = format!("/proc/self/fd/{}", share.as_raw_fd());
    let file_system = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&file_system, "source", "overlay")?;
    fsconfig_set_string(&file_system, "lowerdir", lower)?;
    fsconfig_set_string(&file_system, "upperdir", format!("{ROOTFS_POINT}/{UPPER}"))?;
    fsconfig_set_string(&file_system, "workdir", format!("{ROOTFS_POINT}/{WORK}"))?;
    fsconfig_create(&file_system)?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    fsmount(&file_system, flags, MountAttrFlags::empty())
}
