//! The mount namespace in which others find a container by its pid.
//!
//! Engines copy files by entering the mount namespace of the container's pid
//! (podman cp), and administrators look round there (nsenter). That namespace
//! therefore has the container's root file system and its binds, and nothing of
//! the host: what is copied in reaches the container, and never the host's own
//! files. What only the guest mounts, such as a tmpfs, does not
//! show, and neither does an overlay.
//!
//! Owns the namespace of the owner's first thread alone; the others stay where
//! they were, with the host's files, so that one must open nothing after this.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use caisson_protocol::SHARE_PATH;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, pivot_root};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{MoveMountFlags, move_mount};
use serde_json::Value;

use crate::monitor::error::Error;
use crate::oci::plan::{Plan, Share};
use crate::process::{self, step};
use crate::vm::fs_daemon::cut_out;

/// Moves the calling thread there. Called once the guest has made the places at
/// which it mounts.
pub(crate) fn enter(plan: &Plan, rootfs: &Path) -> Result<(), Error> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
        .map_err(failed)?;
    let Some((root, binds)) = plan.shares.split_first() else {
        return Ok(());
    };
    attach(
        &cut_out(root)?.tree,
        File::open(rootfs).map_err(step(DOING))?.as_fd(),
    )?;
    chdir(rootfs).map_err(failed)?;
    let inside = File::open(".").map_err(step(DOING))?;
    for (destination, share) in places(&plan.guest_spec, binds) {
        if let Some(place) = find(&inside, Path::new(destination)) {
            attach_if_it_fits(&cut_out(share)?.tree, &place)?;
        }
    }
    pivot_root(".", ".")
        .and_then(|()| umount2(".", MntFlags::MNT_DETACH))
        .and_then(|()| chdir("/"))
        .map_err(failed)
}

const DOING: &str = "make the container's mount namespace on the host";

fn failed(errno: nix::errno::Errno) -> Error {
    step(DOING)(errno.into()).into()
}

/// Each bind's place in the container, with what is bound there.
fn places<'a>(spec: &'a Value, shares: &'a [Share]) -> impl Iterator<Item = (&'a str, &'a Share)> {
    let mounts = spec["mounts"].as_array().map_or(&[][..], Vec::as_slice);
    mounts.iter().filter_map(move |mount| {
        let source = Path::new(mount["source"].as_str()?);
        let target = source.strip_prefix(SHARE_PATH).ok()?;
        // An overlay that is mounted twice has two views of its changes.
        let mut shown = shares.iter().filter(|share| share.overlay.is_none());
        let share = shown.find(|share| share.target == target)?;
        Some((mount["destination"].as_str()?, share))
    })
}

/// The root file system is not trusted: its links lead nowhere outside of it.
fn find(root: &File, destination: &Path) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let path = Path::new(".").join(destination.strip_prefix("/").unwrap_or(destination));
    openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT).ok()
}

/// A place that the guest has made anew meanwhile, a file for a directory, is left.
fn attach_if_it_fits(tree: &OwnedFd, place: &OwnedFd) -> Result<(), Error> {
    match attach(tree, place.as_fd()) {
        Err(Error::Process(process::Error::Step(_, source)))
            if source.kind() == std::io::ErrorKind::NotADirectory =>
        {
            Ok(())
        }
        other => other,
    }
}

fn attach(tree: &OwnedFd, place: std::os::fd::BorrowedFd<'_>) -> Result<(), Error> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", place, "", flags)
        .map_err(|errno| step(DOING)(errno.into()))
        .map_err(Into::into)
}
