//! The file that is the guest's memory, shared with the machine and the file server.
//!
//! Owns its making. Huge pages under the parts that every guest uses save
//! thousands of page faults; the machine says which parts (madvise), but only
//! a file system of our own, mounted nowhere, can allow it: hosts forbid huge
//! pages for memfds by default.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::memfd::{MFdFlags, memfd_create};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

use super::error::{Error, step};

/// Makes a file of `mem_mib` MiB that takes memory as it is touched.
pub(crate) fn make(mem_mib: u32) -> Result<OwnedFd, Error> {
    let failed = |err: io::Error| step("make the guest's memory")(err);
    // Without the right to mount, or on an older kernel, small pages do.
    let file = match on_own_file_system() {
        Ok(file) => file,
        Err(_) => memfd_create(c"guest-memory", MFdFlags::MFD_CLOEXEC)
            .map_err(|errno| failed(errno.into()))?,
    };
    nix::unistd::ftruncate(&file, i64::from(mem_mib) << 20)
        .map_err(|errno| failed(errno.into()))?;
    Ok(file)
}

/// A file without name; its file system lives as long as the file.
fn on_own_file_system() -> Result<OwnedFd, Errno> {
    let tmpfs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(tmpfs.as_fd(), "huge", "advise")?;
    // The machine's own size is the limit, not half of the host's memory.
    fsconfig_set_string(tmpfs.as_fd(), "size", "0")?;
    fsconfig_create(tmpfs.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(tmpfs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    openat(&mount, ".", flags, Mode::RUSR | Mode::WUSR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_asked_size_and_takes_no_memory() {
        let file = std::fs::File::from(make(3).unwrap());
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len(), 3 << 20);
        assert_eq!(std::os::unix::fs::MetadataExt::blocks(&metadata), 0);
    }
}
