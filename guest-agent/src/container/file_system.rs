//! File systems that the guest's kernel makes: tmpfs, proc and the like.
//!
//! Owns their parameters. `mounts` sets the attributes of their mounts.

use std::os::fd::OwnedFd;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, fsconfig_create, fsconfig_reconfigure,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, fspick,
};

use super::mount_options::MountOptions;

/// A detached mount of a new file system. `name` is what lists of mounts show.
///
/// # Errors
/// The kernel's refusal, of the kind or of a parameter.
pub(crate) fn make(kind: &str, name: &str, options: &MountOptions) -> rustix::io::Result<OwnedFd> {
    let file_system = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&file_system, "source", name)?;
    configure(&file_system, options)?;
    fsconfig_create(&file_system)?;
    let attributes = MountAttrFlags::empty();
    fsmount(&file_system, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Changes the parameters of the file system behind `mount`.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn change(mount: &OwnedFd, options: &MountOptions) -> rustix::io::Result<()> {
    let flags = FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC;
    let file_system = fspick(mount, "", flags)?;
    configure(&file_system, options)?;
    fsconfig_reconfigure(&file_system)
}

fn configure(file_system: &OwnedFd, options: &MountOptions) -> rustix::io::Result<()> {
    for flag in &options.flags {
        fsconfig_set_flag(file_system, *flag)?;
    }
    for (key, value) in &options.parameters {
        match value {
            Some(value) => fsconfig_set_string(file_system, key.as_str(), value.as_str())?,
            None => fsconfig_set_flag(file_system, key.as_str())?,
        }
    }
    Ok(())
}

/// A detached empty read-only directory, to hide another behind.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn empty_directory() -> rustix::io::Result<OwnedFd> {
    make_plain("tmpfs", &[("size", "0")], MountAttrFlags::MOUNT_ATTR_RDONLY)
}

/// A detached mount of a new file system with these parameters, which the agent chooses.
///
/// # Errors
/// The kernel's refusal.
pub(super) fn make_plain(
    kind: &str,
    parameters: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> rustix::io::Result<OwnedFd> {
    let file_system = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in parameters {
        fsconfig_set_string(&file_system, *key, *value)?;
    }
    fsconfig_create(&file_system)?;
    fsmount(&file_system, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}
