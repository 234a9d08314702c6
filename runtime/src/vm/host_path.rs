//! Paths of the host that a container names: opened, compared, refused.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;
use rustix::fs::fstat;

/// Opens what is there without a right to its contents.
pub(crate) fn open_place(path: &Path) -> io::Result<File> {
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    File::options().read(true).custom_flags(flags).open(path)
}

pub(crate) fn is_same_file(one: impl AsFd, other: impl AsFd) -> io::Result<bool> {
    let [one, other] = [fstat(one)?, fstat(other)?];
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

pub(crate) fn of_the_hosts_kernel(source: &Path, kind: &str) -> String {
    let source = source.display();
    format!(
        "it leads to {source}, which shows the host's kernel ({kind}); a source spelled /proc, /sys or /dev, or below, is the guest's own"
    )
}
