//! The user and the privileges that a process runs with.
//!
//! Owns the order in which privileges are given up.

use std::os::fd::AsFd;

use nix::{
    errno::Errno,
    sys::stat::{Mode, umask},
    unistd::{Gid, Uid, chdir, setgid, setgroups, setuid},
};
use oci_spec::runtime::{Process, User};
use rustix::{
    fs::{fchown, fstat},
    thread::{set_keep_capabilities, set_no_new_privs},
};

use super::capabilities::{self, CapabilitySets};
use crate::failure::{Attempt, Failure};

/// Takes the identity of `process` and enters its working directory.
///
/// # Errors
/// The first step that is refused.
pub(crate) fn assume(process: &Process) -> Result<(), Failure> {
    let user = process.user();
    if process.no_new_privileges().unwrap_or(false) {
        set_no_new_privs(true).step("set no_new_privs")?;
    }
    let supported = capabilities::supported();
    let sets = CapabilitySets::new(process.capabilities().as_ref(), &supported);
    sets.apply_bounding(&supported)?;
    let moved = change_directory(process)?;
    set_keep_capabilities(true).step("keep capabilities")?;
    switch_user(user)?;
    set_keep_capabilities(false).step("keep capabilities")?;
    if !moved {
        chdir(process.cwd()).map_err(|errno| directory_refused(process, errno))?;
    }
    // A directory outside of the root would be a way out of the container.
    std::env::current_dir().at(
        "current working directory is outside of container mount namespace root",
        process.cwd(),
    )?;
    sets.apply()?;
    let mask = user.umask().unwrap_or(0o022);
    umask(Mode::from_bits_truncate(mask));
    Ok(())
}

/// Enters the working directory. Returns `false` when only the user may be allowed to.
fn change_directory(process: &Process) -> Result<bool, Failure> {
    match chdir(process.cwd()) {
        Ok(()) => Ok(true),
        Err(Errno::EACCES | Errno::EPERM) => Ok(false),
        Err(errno) => Err(directory_refused(process, errno)),
    }
}

fn directory_refused(process: &Process, errno: Errno) -> Failure {
    Failure::Refused(format!(
        "chdir to cwd ({:?}) set in config.json failed: {}",
        process.cwd().display().to_string(),
        crate::failure::Errno(errno),
    ))
}

fn switch_user(user: &User) -> Result<(), Failure> {
    let groups = user.additional_gids().as_deref().unwrap_or_default();
    let groups: Vec<Gid> = groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    // Also an empty list: the groups of the agent must not stay.
    setgroups(&groups).step("set additional groups")?;
    setgid(Gid::from_raw(user.gid())).map_err(|errno| unmapped(errno, "gid", user.gid()))?;
    setuid(Uid::from_raw(user.uid())).map_err(|errno| unmapped(errno, "uid", user.uid()))
}

/// Inside a user namespace, an id that isn't in its map is no valid argument.
fn unmapped(errno: Errno, kind: &str, id: u32) -> Failure {
    let reason = crate::failure::Errno(errno);
    Failure::Refused(match errno {
        Errno::EINVAL => format!("cannot set{kind} to unmapped {kind} {id} in user namespace"),
        _ => format!("set{kind} {id}: {reason}"),
    })
}

/// The process may open /dev/stdout again only if its pipe is its own, so `uid`
/// becomes the owner. What is shared with others, as /dev/null, stays as it is.
///
/// # Errors
/// The kernel's refusal, but not that of a file system without owners.
pub(crate) fn give_stdio_to(uid: u32) -> Result<(), Failure> {
    let owner = Some(rustix::fs::Uid::from_raw(uid));
    let null = rustix::fs::stat("/dev/null").map(|stat| stat.st_rdev);
    for stream in [
        std::io::stdin().as_fd(),
        std::io::stdout().as_fd(),
        std::io::stderr().as_fd(),
    ] {
        let stat = fstat(stream).step("inspect standard streams")?;
        if stat.st_uid == uid || null == Ok(stat.st_rdev) {
            continue;
        }
        match fchown(stream, owner, None) {
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => {}
            Err(errno) => return Err(errno).step("set owner of standard streams"),
        }
    }
    Ok(())
}
