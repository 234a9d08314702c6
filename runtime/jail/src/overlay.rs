//! An overlay of directories that are open, mounted nowhere else. Owns the making;
//! which directories these are is the caller's choice.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{MountFlags, OpenTreeFlags, mount, open_tree};

use crate::error::{Error, Step};

/// Where changes go.
#[derive(Debug)]
pub struct Upper {
    /// The changed files.
    pub changes: OwnedFd,
    /// Where they are prepared.
    pub work: OwnedFd,
}

/// Mounts the directories `lower`, from above to below, and `upper` over them, at `point`,
/// and returns a detached copy. The calling thread has a mount namespace of its own, see
/// [`crate::cover::with_covered`], and has opened the directories there.
///
/// # Errors
/// The step that was refused.
pub fn mount_overlay(
    lower: &[OwnedFd],
    upper: Option<&Upper>,
    parameters: &[String],
    point: &Path,
) -> Result<OwnedFd, Error> {
    // A path of one's own descriptor needs no escapes, and is short: the kernel takes
    // one page of options.
    let path = |opened: &OwnedFd| format!("/proc/self/fd/{}", opened.as_raw_fd());
    let lower: Vec<String> = lower.iter().map(path).collect();
    let mut options = vec![format!("lowerdir={}", lower.join(":"))];
    if let Some(Upper { changes, work }) = upper {
        options.push(format!("upperdir={}", path(changes)));
        options.push(format!("workdir={}", path(work)));
    }
    options.extend(parameters.iter().cloned());
    let options = std::ffi::CString::new(options.join(","));
    let options = options.map_err(Step::MountOverlay.refused())?;
    let flags = MountFlags::empty();
    mount("overlay", point, "overlay", flags, options.as_c_str())
        .map_err(Step::MountOverlay.refused())?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, point, flags).map_err(Step::OpenTree(point.into()).refused())
}

/// The error of a directory that can't be opened for an overlay.
#[must_use]
pub fn not_opened(source: std::io::Error) -> Error {
    Step::MountOverlay.refused()(source)
}
