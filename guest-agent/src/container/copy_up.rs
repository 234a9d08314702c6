//! Fills a fresh tmpfs with what it is about to cover (`tmpcopyup`).
//!
//! Owns no mount: both ends are open directories.

use std::{ffi::CStr, os::fd::OwnedFd};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fchmod, fchown, fstat,
        mkdirat, mknodat, openat, readlinkat, statat, symlinkat,
    },
    io::Result,
};

/// Copies everything below `from` into `to`, with owners and modes.
///
/// # Errors
/// The kernel's, at the first entry that can't be copied.
pub(crate) fn copy_up(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let from = openat(from, c".", DIRECTORY, Mode::empty())?;
    let to = openat(to, c".", DIRECTORY, Mode::empty())?;
    copy_directory(&from, &to)
}

fn copy_directory(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        if ![c".", c".."].contains(&entry.file_name()) {
            copy_entry(from, to, entry.file_name())?;
        }
    }
    take_owner_and_mode(to, &fstat(from)?)
}

fn copy_entry(from: &OwnedFd, to: &OwnedFd, name: &CStr) -> Result<()> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(stat.st_mode);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            mkdirat(to, name, mode)?;
            let from = openat(from, name, DIRECTORY, Mode::empty())?;
            let to = openat(to, name, DIRECTORY, Mode::empty())?;
            copy_directory(&from, &to)
        }
        FileType::RegularFile => copy_file(from, to, name, &stat),
        FileType::Symlink => {
            symlinkat(readlinkat(from, name, Vec::new())?, to, name)?;
            take_owner(to, name, &stat)
        }
        kind => {
            mknodat(to, name, kind, mode, stat.st_rdev)?;
            take_owner(to, name, &stat)
        }
    }
}

fn copy_file(from: &OwnedFd, to: &OwnedFd, name: &CStr, stat: &Stat) -> Result<()> {
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = openat(from, name, read, Mode::empty())?;
    let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let target = openat(to, name, create, Mode::RUSR | Mode::WUSR)?;
    while rustix::fs::sendfile(&target, &source, None, CHUNK)? > 0 {}
    take_owner_and_mode(&target, stat)
}

fn take_owner(directory: &OwnedFd, name: &CStr, stat: &Stat) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(
        directory,
        name,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    )
}

/// The mode comes last: a change of owner clears set-user-id bits.
fn take_owner_and_mode(target: &OwnedFd, stat: &Stat) -> Result<()> {
    fchown(
        target,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )?;
    fchmod(target, Mode::from_raw_mode(stat.st_mode))
}

const DIRECTORY: OFlags = OFlags::DIRECTORY
    .union(OFlags::RDONLY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// Bytes per call; a file of any size fits by repetition.
const CHUNK: usize = 1 << 20;
