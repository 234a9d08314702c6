//! Directories of a cgroup hierarchy: made with all they need above, and removed with
//! all that is below.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cgroup::error::{Error, io};
use crate::cgroup::hierarchy::{Hierarchy, Version};

/// What containers may be limited by (version 2 hands controllers down one by one).
const CONTROLLERS: [&str; 6] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];

/// Makes `path` and what it lacks above, with the controllers handed down.
pub(super) fn make(
    path: &Path,
    hierarchy: &Hierarchy,
    version: Version,
    made_above: &mut Vec<PathBuf>,
) -> Result<(), Error> {
    let mut above: Vec<&Path> = path
        .ancestors()
        .skip(1)
        .take_while(|directory| directory.starts_with(&hierarchy.mount))
        .collect();
    above.reverse();
    for directory in above {
        if make_one(directory, hierarchy)? {
            made_above.push(directory.to_owned());
        }
        if version == Version::V2 {
            enable_controllers(directory);
        }
    }
    make_one(path, hierarchy).map(drop)
}

/// Whether it was missing.
fn make_one(directory: &Path, hierarchy: &Hierarchy) -> Result<bool, Error> {
    // Whoever may write to it may make cgroups in it.
    let made = match DirBuilder::new().mode(0o755).create(directory) {
        Ok(()) => true,
        Err(err) if err.kind() == ErrorKind::AlreadyExists => false,
        Err(source) => return Err(io("create", directory)(source)),
    };
    // No process can live in a cgroup of this controller otherwise, nor below it,
    // whoever has made it.
    if hierarchy.controllers.iter().any(|name| name == "cpuset") {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            inherit_if_empty(directory, file).map_err(io("prepare", directory))?;
        }
    }
    Ok(made)
}

fn inherit_if_empty(directory: &Path, file: &str) -> io::Result<()> {
    if !fs::read_to_string(directory.join(file))?.trim().is_empty() {
        return Ok(());
    }
    let parent = directory.parent().unwrap_or(directory);
    let value = fs::read_to_string(parent.join(file))?;
    write(directory, file, value.trim_end())
}

/// Each by itself: what this host lacks, or doesn't hand out, shows when a limit needs it.
fn enable_controllers(directory: &Path) {
    let read = |file: &str| fs::read_to_string(directory.join(file)).unwrap_or_default();
    let (there, down) = (read("cgroup.controllers"), read("cgroup.subtree_control"));
    let has = |list: &str, name: &str| list.split_whitespace().any(|word| word == name);
    for name in CONTROLLERS {
        if has(&there, name) && !has(&down, name) {
            write(directory, "cgroup.subtree_control", &format!("+{name}")).ok();
        }
    }
}

/// A process that has ended may hold its cgroup until the processor has left it, and
/// nothing tells when that is.
const RELEASE_LIMIT: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(5);

/// Whatever was made below it, by hooks maybe, goes first.
pub(super) fn remove_tree(directory: &Path) -> io::Result<()> {
    if remove_within(directory, Duration::ZERO).is_ok() {
        return Ok(());
    }
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    remove_within(directory, RELEASE_LIMIT)
}

/// Removes an empty cgroup; one that is gone already is a success.
fn remove_within(directory: &Path, limit: Duration) -> io::Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        match fs::remove_dir(directory) {
            Err(err) if err.kind() == ErrorKind::NotFound => return Ok(()),
            Err(err) if err.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline => {
                std::thread::park_timeout(RETRY);
            }
            removed => return removed,
        }
    }
}

/// The kernel takes each value as one write, and files are never made here.
pub(super) fn write(directory: &Path, file: &str, value: &str) -> io::Result<()> {
    let mut file = fs::File::options().write(true).open(directory.join(file))?;
    file.write_all(value.as_bytes())
}
