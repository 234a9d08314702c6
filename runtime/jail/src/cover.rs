//! Looks at the host's mounts without some of them: an empty, read-only directory lies
//! over each, in a mount namespace that one thread has for itself. Owns the covering;
//! which mounts are covered is the caller's choice.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, unmount,
};

use crate::error::{Error, Step};

/// Runs `work` where the mounts at `points` are covered, in a thread of its own.
///
/// # Errors
/// [`Error::Refused`] with the step, and those of `work`. Needs CAP_SYS_ADMIN over the
/// mount namespace of the caller.
pub fn with_covered<T: Send>(
    points: &[PathBuf],
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    let covered = || {
        leave_the_hosts_namespace()?;
        points.iter().try_for_each(|point| cover(point))?;
        work()
    };
    let ended = std::thread::scope(|scope| scope.spawn(covered).join());
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What is mounted here from now on is seen nowhere else; what the host mounts and
/// unmounts goes on to arrive.
fn leave_the_hosts_namespace() -> Result<(), Error> {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)
        .map_err(Step::EnterNamespaces.refused())?;
    let receive = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", receive).map_err(Step::EnterNamespaces.refused())
}

/// A mount that has gone meanwhile needs no cover.
fn cover(point: &Path) -> Result<(), Error> {
    let refused = |errno: Errno| Step::Cover(point.into()).refused()(errno);
    match std::fs::symlink_metadata(point) {
        Ok(found) if found.is_dir() => {
            let empty = empty_directory().map_err(refused)?;
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            move_mount(&empty, "", CWD, point, flags).map_err(refused)
        }
        // What lies below a file is a file that nobody has mounted over.
        Ok(_) => unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).map_err(refused),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(err) => Err(Step::Cover(point.into()).refused()(err)),
    }
}

fn empty_directory() -> Result<OwnedFd, Errno> {
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(fs.as_fd(), "mode", "0555")?;
    fsconfig_create(fs.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}
