//! The own namespaces, and which users and groups exist in the user namespace.
//!
//! A map of one identity may be written by the process itself. A longer one must
//! come from a process with CAP_SETUID and CAP_SETGID in the parent namespace,
//! and whoever makes a user namespace has none there any more. So a child is
//! forked before, waits on a pipe, writes the maps from outside and ends.

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::error::{Error, Step};
use crate::sys::{self, Child};

/// The users and groups of a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identities {
    /// The caller's own user and group, as root. Needs no privilege; other
    /// owners of files look like `nobody`, and none can be given to a file.
    Own,
    /// Every identity the caller sees, each as itself. Needs CAP_SETUID and
    /// CAP_SETGID.
    All,
}

/// Moves this process into new user, mount, net, ipc, uts and cgroup namespaces.
pub(crate) fn enter_namespaces(identities: Identities) -> Result<(), Error> {
    match identities {
        Identities::Own => enter_user_namespace_of_one()?,
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
    let writer = MapWriter::fork()?;
    unshare(CloneFlags::CLONE_NEWUSER).map_err(Step::EnterUserNamespace.refused())?;
    writer.write_maps()
}

/// The child that stays outside, waiting for its word to write the maps.
struct MapWriter {
    child: Child,
    go: OwnedFd,
}

impl MapWriter {
    fn fork() -> Result<Self, Error> {
        let refused = |e: Errno| Step::ForkMapWriter.refused()(e);
        let uids = identity_map("/proc/self/uid_map")?;
        let gids = identity_map("/proc/self/gid_map")?;
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
            let mut word = [0];
            if rustix::io::read(&wait, &mut word)? != 1 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            write_map(&process, "uid_map", &uids)?;
            write_map(&process, "gid_map", &gids)
        })
        .map_err(Step::ForkMapWriter.refused())?;
        Ok(Self { child, go })
    }

    fn write_maps(self) -> Result<(), Error> {
        let Self { child, go } = self;
        // A refused write means that the child is dead, which its status tells
        // better.
        let told = rustix::io::write(&go, &[1]);
        drop(go);
        child.wait().map_err(Step::WriteIdentityMaps.refused())?;
        told.map(|_| ()).map_err(Step::WriteIdentityMaps.refused())
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
    use super::to_identity;

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
