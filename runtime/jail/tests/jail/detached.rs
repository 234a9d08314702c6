//! Mounts without a place: what can be done through their descriptors.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use caisson_jail::detached::{Access, Tree, detach};
use caisson_jail::require_read_only;
use libtest_mimic::Trial;
use rustix::fs::{Mode, OFlags, openat};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "a_read_only_copy_refuses_and_the_original_does_not",
            read_only,
        ),
        trial("a_writable_copy_is_not_taken_for_read_only", writable),
        trial("a_single_file_can_be_detached", single_file),
        trial("a_missing_path_is_named", missing),
    ]
}

fn open(tree: &OwnedFd, name: &str, flags: OFlags) -> std::io::Result<File> {
    Ok(openat(tree, name, flags, Mode::from_raw_mode(0o644))?.into())
}

fn read_only() {
    let host = tempfile::tempdir().unwrap();
    let tree = detach(host.path(), Tree::Recursive, Access::ReadOnly).unwrap();
    require_read_only(&tree, host.path()).unwrap();
    let refused = open(&tree, "new", OFlags::CREATE | OFlags::WRONLY).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
    fs::write(host.path().join("new"), "x").unwrap();
    let mut content = String::new();
    open(&tree, "new", OFlags::RDONLY)
        .unwrap()
        .read_to_string(&mut content)
        .unwrap();
    assert_eq!(content, "x");
}

fn writable() {
    let host = tempfile::tempdir().unwrap();
    let tree = detach(host.path(), Tree::One, Access::AsMounted).unwrap();
    let error = require_read_only(&tree, Path::new("web1/rootfs")).unwrap_err();
    assert_eq!(error.to_string(), "web1/rootfs can be written to");
    open(&tree, "new", OFlags::CREATE | OFlags::WRONLY)
        .unwrap()
        .write_all(b"x")
        .unwrap();
    assert_eq!(fs::read(host.path().join("new")).unwrap(), b"x");
}

fn single_file() {
    let host = tempfile::NamedTempFile::new().unwrap();
    let tree = detach(host.path(), Tree::One, Access::ReadOnly).unwrap();
    assert!(File::from(tree).metadata().unwrap().is_file());
}

fn missing() {
    let error = detach(Path::new("/nowhere/here"), Tree::One, Access::AsMounted).unwrap_err();
    assert_eq!(error.to_string(), "detach /nowhere/here");
}
