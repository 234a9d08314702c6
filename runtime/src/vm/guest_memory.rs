//! The file that is the guest's memory, shared with the machine and the file server.
//!
//! Owns its making, and that its length is final: whoever shares it could otherwise
//! make it take the host's memory. (One on a file system of its own can be cut, which
//! ends its own machine and nothing else.) Huge pages under the parts that every guest uses save
//! thousands of page faults; the machine says which parts (madvise), but only
//! a file system of our own, mounted nowhere, can allow it: hosts forbid huge
//! pages for memfds by default.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    MemfdFlags, Mode, OFlags, SealFlags, fchmod, fcntl_add_seals, ftruncate, memfd_create, openat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

use crate::process::step;
use crate::vm::error::Error;

/// Makes a file of `mem_mib` MiB that takes memory as it is touched.
pub(crate) fn make(mem_mib: u32) -> Result<OwnedFd, Error> {
    let failed = |err: io::Error| step("make the guest's memory")(err);
    // Without the right to mount, or on an older kernel, small pages do.
    on_own_file_system(mem_mib)
        .or_else(|_| sealed(mem_mib))
        .map_err(|errno| failed(errno.into()))
        .map_err(Into::into)
}

/// A file whose length nobody can change. Holes can still be made in it.
fn sealed(mem_mib: u32) -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create(c"guest-memory", flags)?;
    ftruncate(&file, u64::from(mem_mib) << 20)?;
    let seals = SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&file, seals)?;
    Ok(file)
}

/// A file without name; its file system lives as long as the file, and has room for no
/// more than the guest's memory.
fn on_own_file_system(mem_mib: u32) -> Result<OwnedFd, Errno> {
    let tmpfs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(tmpfs.as_fd(), "huge", "advise")?;
    let size = format!("{mem_mib}m");
    fsconfig_set_string(tmpfs.as_fd(), "size", size.as_str())?;
    fsconfig_create(tmpfs.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(tmpfs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = openat(&mount, ".", flags, Mode::empty())?;
    // Whatever the umask: QEMU opens it anew by its number.
    fchmod(&file, Mode::RUSR | Mode::WUSR)?;
    ftruncate(&file, u64::from(mem_mib) << 20)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use rustix::fs::{FallocateFlags, fallocate};

    use super::*;

    #[test]
    fn the_file_has_the_asked_size_and_takes_no_memory() {
        let file = std::fs::File::from(make(3).unwrap());
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len(), 3 << 20);
        assert_eq!(metadata.blocks(), 0);
    }

    /// What a helper that was taken over could try; it takes at most the guest's memory.
    fn try_to_grow(file: OwnedFd) {
        let file = std::fs::File::from(file);
        let (end, one_more) = (3 << 20, 1 << 20);
        file.write_all_at(&[1; 3 << 20], 0).unwrap();
        assert!(fallocate(&file, FallocateFlags::empty(), end, one_more).is_err());
        assert!(fallocate(&file, FallocateFlags::KEEP_SIZE, end, one_more).is_err());
        assert!(file.write_all_at(&[1; 4096], end).is_err());
        file.set_len(64 << 20).ok();
        assert!(file.write_all_at(&[1; 1 << 20], 32 << 20).is_err());
        assert!(file.metadata().unwrap().blocks() * 512 <= end);
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&file, hole, 0, end).unwrap();
        assert_eq!(file.metadata().unwrap().blocks(), 0);
    }

    #[test]
    fn whoever_has_the_file_cannot_make_it_take_more_memory() {
        try_to_grow(sealed(3).unwrap());
        // Only root can mount.
        if let Ok(file) = on_own_file_system(3) {
            try_to_grow(file);
        }
    }

    #[test]
    fn a_sealed_file_can_not_be_cut() {
        let file = std::fs::File::from(sealed(3).unwrap());
        assert!(file.set_len(1 << 20).is_err());
        assert!(file.set_len(4 << 20).is_err());
    }
}
