//! The own namespaces, and which users and groups exist in the user namespace.
//!
//! A map of one identity may be written by the process itself. A longer one must
//! come from a process with CAP_SETUID and CAP_SETGID in the parent namespace,
//! and whoever makes a user namespace has none there any more. So a child is
//! forked before, waits on a pipe, writes the maps from outside and ends.
//!
//! A process that root starts would still be kernel user 0, whom the kernel lets do to
//! root's processes what needs no capability: signal them, look at their files. So it
//! becomes a user of its own, in a range that nothing else uses. Its number is that of
//! its user namespace, which the kernel gives to one at a time.

use std::fs;
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, Mode, OFlags, openat, stat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Gid, Uid, parent_process_death_signal, set_parent_process_death_signal};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::error::{Error, Step};
use crate::sys::{self, Child};

/// The users and groups of a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identities {
    /// The caller's own user and group, as root. Needs no privilege; other
    /// owners of files look like `nobody`, and none can be given to a file.
    Own,
    /// One user and group that no other process has, as root; for a caller that doesn't
    /// have these identities to give (an ordinary user, or root of a user namespace
    /// with few), as `Own`. Needs CAP_SETUID and CAP_SETGID if the caller has them.
    Unique,
    /// Every identity the caller sees, each as itself. Needs CAP_SETUID and
    /// CAP_SETGID.
    All,
}

/// The users and groups of [`Identities::Unique`]: above those that accounts and
/// containers are given, and below those that systemd calls foreign.
pub const UNIQUE_IDS: Range<u32> = 0x7000_0000..0x7ff0_0000;

/// Numbers of namespaces begin here (`PROC_DYNAMIC_FIRST` of linux/fs/proc).
const FIRST_NAMESPACE: u64 = 0xf000_0000;

/// Moves this process into new user, mount, net, ipc, uts and cgroup namespaces.
pub(crate) fn enter_namespaces(identities: Identities) -> Result<(), Error> {
    match identities {
        Identities::Own => enter_user_namespace_of_one()?,
        Identities::Unique if are_unique_ids_mapped()? => enter_user_namespace_of_unique()?,
        Identities::Unique => enter_user_namespace_of_one()?,
        Identities::All => enter_user_namespace_of_all()?,
    }
    // Mounts need no change of propagation: in a new user namespace they are
    // all slaves of the mounts they were copied from.
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWCGROUP,
    )
    .map_err(Step::EnterNamespaces.refused())
}

fn enter_user_namespace_of_one() -> Result<(), Error> {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    unshare(CloneFlags::CLONE_NEWUSER).map_err(Step::EnterUserNamespace.refused())?;
    let refused = |e: io::Error| Step::WriteIdentityMaps.refused()(e);
    // The kernel's condition for a group map without privilege.
    fs::write("/proc/self/setgroups", "deny").map_err(refused)?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).map_err(refused)?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).map_err(refused)
}

fn enter_user_namespace_of_all() -> Result<(), Error> {
    let uids = identity_map("/proc/self/uid_map")?;
    let gids = identity_map("/proc/self/gid_map")?;
    let writer = MapWriter::fork(|_| Maps { uids, gids })?;
    unshare(CloneFlags::CLONE_NEWUSER).map_err(Step::EnterUserNamespace.refused())?;
    writer.write_maps(0)
}

fn enter_user_namespace_of_unique() -> Result<(), Error> {
    let writer = MapWriter::fork(|id| {
        let map = format!("0 {id} 1\n");
        Maps {
            uids: map.clone(),
            gids: map,
        }
    })?;
    unshare(CloneFlags::CLONE_NEWUSER).map_err(Step::EnterUserNamespace.refused())?;
    let refused = |e: Errno| Step::BecomeUnique.refused()(e);
    let namespace = stat("/proc/self/ns/user").map_err(refused)?;
    let id = unique_id(namespace.st_ino).ok_or_else(|| refused(Errno::RANGE))?;
    writer.write_maps(id)?;
    // Who changes identity is otherwise forgotten to be ended with its parent.
    let at_parents_end = parent_process_death_signal().map_err(refused)?;
    set_thread_groups(&[]).map_err(refused)?;
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).map_err(refused)?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).map_err(refused)?;
    set_parent_process_death_signal(at_parents_end).map_err(refused)
}

/// The identity for the namespace with this number.
fn unique_id(namespace: u64) -> Option<u32> {
    let offset = u32::try_from(namespace.checked_sub(FIRST_NAMESPACE)?).ok()?;
    let id = UNIQUE_IDS.start.checked_add(offset)?;
    UNIQUE_IDS.contains(&id).then_some(id)
}

/// The caller has the whole range to give.
fn are_unique_ids_mapped() -> Result<bool, Error> {
    let is_in = |path| {
        let map = fs::read_to_string(path).map_err(Step::WriteIdentityMaps.refused())?;
        Ok(covers(&map, &UNIQUE_IDS))
    };
    let is_root = rustix::process::geteuid().is_root();
    Ok(is_root && is_in("/proc/self/uid_map")? && is_in("/proc/self/gid_map")?)
}

/// A line `inside outside count` of `map` has all of `ids` inside.
fn covers(map: &str, ids: &Range<u32>) -> bool {
    map.lines().any(|line| {
        let numbers: Result<Vec<u64>, _> = line.split_whitespace().map(str::parse).collect();
        match numbers.as_deref() {
            Ok(&[inside, _, count]) => {
                inside <= ids.start.into() && inside.saturating_add(count) >= ids.end.into()
            }
            _ => false,
        }
    })
}

/// What is written into the two map files.
struct Maps {
    uids: String,
    gids: String,
}

/// The child that stays outside, waiting for its word to write the maps.
struct MapWriter {
    child: Child,
    go: OwnedFd,
}

impl MapWriter {
    /// `maps` makes the maps of the number that the writer is sent.
    fn fork(maps: impl FnOnce(u32) -> Maps) -> Result<Self, Error> {
        let refused = |e: Errno| Step::ForkMapWriter.refused()(e);
        // By descriptor and not by number: in a pid namespace of its own, this
        // process does not know its number in the /proc it sees.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let process = openat(CWD, "/proc/self", flags, Mode::empty()).map_err(refused)?;
        let (wait, go) = pipe_with(PipeFlags::CLOEXEC).map_err(refused)?;
        // The child's copy of `go` has to be closed in it: it is what `wait`
        // waits for if this process dies.
        let go_number = std::os::fd::AsRawFd::as_raw_fd(&go);
        let child = sys::fork(|| {
            sys::close_range(go_number.unsigned_abs(), go_number.unsigned_abs())?;
            let mut number = [0; size_of::<u32>()];
            if rustix::io::read(&wait, &mut number)? != number.len() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let Maps { uids, gids } = maps(u32::from_ne_bytes(number));
            write_map(&process, "uid_map", &uids)?;
            write_map(&process, "gid_map", &gids)
        })
        .map_err(Step::ForkMapWriter.refused())?;
        Ok(Self { child, go })
    }

    fn write_maps(self, number: u32) -> Result<(), Error> {
        let Self { child, go } = self;
        // A refused write means that the child is dead, which its status shows
        // better.
        let sent = rustix::io::write(&go, &number.to_ne_bytes());
        drop(go);
        child.wait().map_err(Step::WriteIdentityMaps.refused())?;
        sent.map(|_| ()).map_err(Step::WriteIdentityMaps.refused())
    }
}

fn write_map(process: impl AsFd, name: &str, map: &str) -> io::Result<()> {
    let file = openat(
        process,
        name,
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    // The kernel takes a map only as one write.
    fs::File::from(file).write_all(map.as_bytes())
}

/// The map that gives every identity of the map in `path` to itself.
fn identity_map(path: &'static str) -> Result<String, Error> {
    let map = fs::read_to_string(path).map_err(Step::WriteIdentityMaps.refused())?;
    Ok(to_identity(&map))
}

/// Lines `inside outside count` become `inside inside count`.
fn to_identity(map: &str) -> String {
    map.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let (inside, count) = (words.next()?, words.nth(1)?);
            Some(format!("{inside} {inside} {count}\n"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_namespace_has_an_identity_in_the_range() {
        assert_eq!(unique_id(0xf000_0000), Some(UNIQUE_IDS.start));
        assert_eq!(unique_id(0xf000_0021), Some(UNIQUE_IDS.start + 0x21));
        assert_eq!(unique_id(0xfff0_0000), None);
        assert_eq!(unique_id(0xefff_fffd), None, "the initial one");
        assert_eq!(unique_id(u64::MAX), None);
    }

    #[test]
    fn only_a_map_of_the_whole_range_covers_it() {
        assert!(covers("0 0 4294967295\n", &UNIQUE_IDS));
        assert!(!covers("0 1000 1\n1 100000 65536\n", &UNIQUE_IDS));
        assert!(!covers("", &UNIQUE_IDS));
        assert!(covers("0 5 1\n1879048192 7 267386880", &UNIQUE_IDS));
        assert!(!covers("1879048192 7 267386879", &UNIQUE_IDS));
    }

    #[test]
    fn each_identity_of_the_outer_map_becomes_itself() {
        assert_eq!(
            to_identity("         0          0 4294967295\n"),
            "0 0 4294967295\n"
        );
        assert_eq!(
            to_identity("0 1000 1\n1 100000 65536\n"),
            "0 0 1\n1 1 65536\n"
        );
    }
}
