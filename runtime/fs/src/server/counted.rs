//! The file system as the guest gets it: the library's, with a count of all that it
//! holds open for the guest.
//!
//! Owns which answers and requests change the count. Everything else is passed on.

use std::ffi::CStr;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use virtiofsd::filesystem::{
    Context, Entry, Extensions, FileSystem, GetxattrReply, ListxattrReply, ZeroCopyReader,
    ZeroCopyWriter,
};
use virtiofsd::fuse::{self, FsOptions, OpenOptions, SetattrValid, SetxattrFlags};
use virtiofsd::passthrough::PassthroughFs;

use super::names::Names;

/// Files, counted.
pub(super) struct Counted {
    files: PassthroughFs,
    names: Arc<Names>,
}

impl Counted {
    /// `files`, of which `names` will know how many are held.
    pub(super) const fn new(files: PassthroughFs, names: Arc<Names>) -> Self {
        Self { files, names }
    }

    fn count(&self, ctx: Context, parent: u64, entry: io::Result<Entry>) -> io::Result<Entry> {
        let entry = entry?;
        self.names.note_entry(process(ctx), parent, entry.inode);
        Ok(entry)
    }

    fn opened(&self, ctx: Context, node: u64, handle: Option<u64>) {
        if let Some(handle) = handle {
            self.names.opened(process(ctx), node, handle);
        }
    }
}

const fn process(ctx: Context) -> u32 {
    ctx.pid.cast_unsigned()
}

impl FileSystem for Counted {
    type Inode = <PassthroughFs as FileSystem>::Inode;
    type Handle = <PassthroughFs as FileSystem>::Handle;
    type DirIter = <PassthroughFs as FileSystem>::DirIter;

    fn init(&self, capable: FsOptions) -> io::Result<FsOptions> {
        // It lets go of everything first.
        self.names.clear();
        self.files.init(capable)
    }

    fn destroy(&self) {
        self.names.clear();
        self.files.destroy();
    }

    fn lookup(&self, ctx: Context, parent: u64, name: &CStr) -> io::Result<Entry> {
        let admitted = self.names.admits(process(ctx), parent);
        let entry = self.files.lookup(ctx, parent, name)?;
        if !admitted && !self.names.knows(entry.inode) {
            self.files.forget(ctx, entry.inode, 1);
            self.names.note_refusal();
            return Err(io::Error::from_raw_os_error(libc::ENFILE));
        }
        self.count(ctx, parent, Ok(entry))
    }

    fn forget(&self, ctx: Context, inode: u64, count: u64) {
        self.files.forget(ctx, inode, count);
        self.names.forgotten(inode, count);
    }

    fn batch_forget(&self, ctx: Context, requests: Vec<(u64, u64)>) {
        for (inode, count) in requests {
            self.forget(ctx, inode, count);
        }
    }

    fn symlink(
        &self,
        ctx: Context,
        linkname: &CStr,
        parent: u64,
        name: &CStr,
        extensions: Extensions,
    ) -> io::Result<Entry> {
        let entry = self.files.symlink(ctx, linkname, parent, name, extensions);
        self.count(ctx, parent, entry)
    }

    fn mknod(
        &self,
        ctx: Context,
        inode: u64,
        name: &CStr,
        mode: u32,
        rdev: u32,
        umask: u32,
        extensions: Extensions,
    ) -> io::Result<Entry> {
        let entry = self
            .files
            .mknod(ctx, inode, name, mode, rdev, umask, extensions);
        self.count(ctx, inode, entry)
    }

    fn mkdir(
        &self,
        ctx: Context,
        parent: u64,
        name: &CStr,
        mode: u32,
        umask: u32,
        extensions: Extensions,
    ) -> io::Result<Entry> {
        let entry = self.files.mkdir(ctx, parent, name, mode, umask, extensions);
        self.count(ctx, parent, entry)
    }

    fn link(&self, ctx: Context, inode: u64, newparent: u64, newname: &CStr) -> io::Result<Entry> {
        let entry = self.files.link(ctx, inode, newparent, newname);
        self.count(ctx, newparent, entry)
    }

    fn open(
        &self,
        ctx: Context,
        inode: u64,
        kill_priv: bool,
        flags: u32,
    ) -> io::Result<(Option<u64>, OpenOptions)> {
        let (handle, options) = self.files.open(ctx, inode, kill_priv, flags)?;
        self.opened(ctx, inode, handle);
        Ok((handle, options))
    }

    fn opendir(
        &self,
        ctx: Context,
        inode: u64,
        flags: u32,
    ) -> io::Result<(Option<u64>, OpenOptions)> {
        let (handle, options) = self.files.opendir(ctx, inode, flags)?;
        self.opened(ctx, inode, handle);
        Ok((handle, options))
    }

    fn create(
        &self,
        ctx: Context,
        parent: u64,
        name: &CStr,
        mode: u32,
        kill_priv: bool,
        flags: u32,
        umask: u32,
        extensions: Extensions,
    ) -> io::Result<(Entry, Option<u64>, OpenOptions)> {
        let created = self
            .files
            .create(ctx, parent, name, mode, kill_priv, flags, umask, extensions);
        let (entry, handle, options) = created?;
        let entry = self.count(ctx, parent, Ok(entry))?;
        self.opened(ctx, entry.inode, handle);
        Ok((entry, handle, options))
    }

    fn release(
        &self,
        ctx: Context,
        inode: u64,
        flags: u32,
        handle: u64,
        flush: bool,
        flock_release: bool,
        lock_owner: Option<u64>,
    ) -> io::Result<()> {
        self.files
            .release(ctx, inode, flags, handle, flush, flock_release, lock_owner)?;
        self.names.closed(handle);
        Ok(())
    }

    fn releasedir(&self, ctx: Context, inode: u64, flags: u32, handle: u64) -> io::Result<()> {
        self.files.releasedir(ctx, inode, flags, handle)?;
        self.names.closed(handle);
        Ok(())
    }

    fn getattr(
        &self,
        ctx: Context,
        inode: u64,
        handle: Option<u64>,
    ) -> io::Result<(fuse::Attr, Duration)> {
        self.files.getattr(ctx, inode, handle)
    }

    fn setattr(
        &self,
        ctx: Context,
        inode: u64,
        attr: fuse::SetattrIn,
        handle: Option<u64>,
        valid: SetattrValid,
    ) -> io::Result<(fuse::Attr, Duration)> {
        self.files.setattr(ctx, inode, attr, handle, valid)
    }

    fn readlink(&self, ctx: Context, inode: u64) -> io::Result<Vec<u8>> {
        self.files.readlink(ctx, inode)
    }

    fn unlink(&self, ctx: Context, parent: u64, name: &CStr) -> io::Result<()> {
        self.files.unlink(ctx, parent, name)
    }

    fn rmdir(&self, ctx: Context, parent: u64, name: &CStr) -> io::Result<()> {
        self.files.rmdir(ctx, parent, name)
    }

    fn rename(
        &self,
        ctx: Context,
        olddir: u64,
        oldname: &CStr,
        newdir: u64,
        newname: &CStr,
        flags: u32,
    ) -> io::Result<()> {
        self.files
            .rename(ctx, olddir, oldname, newdir, newname, flags)
    }

    fn read<W: ZeroCopyWriter>(
        &self,
        ctx: Context,
        inode: u64,
        handle: u64,
        w: W,
        size: u32,
        offset: u64,
        lock_owner: Option<u64>,
        flags: u32,
    ) -> io::Result<usize> {
        self.files
            .read(ctx, inode, handle, w, size, offset, lock_owner, flags)
    }

    fn write<R: ZeroCopyReader>(
        &self,
        ctx: Context,
        inode: u64,
        handle: u64,
        r: R,
        size: u32,
        offset: u64,
        lock_owner: Option<u64>,
        delayed_write: bool,
        kill_priv: bool,
        flags: u32,
    ) -> io::Result<usize> {
        self.files.write(
            ctx,
            inode,
            handle,
            r,
            size,
            offset,
            lock_owner,
            delayed_write,
            kill_priv,
            flags,
        )
    }

    fn flush(&self, ctx: Context, inode: u64, handle: u64, lock_owner: u64) -> io::Result<()> {
        self.files.flush(ctx, inode, handle, lock_owner)
    }

    fn fsync(&self, ctx: Context, inode: u64, datasync: bool, handle: u64) -> io::Result<()> {
        self.files.fsync(ctx, inode, datasync, handle)
    }

    fn fallocate(
        &self,
        ctx: Context,
        inode: u64,
        handle: u64,
        mode: u32,
        offset: u64,
        length: u64,
    ) -> io::Result<()> {
        self.files
            .fallocate(ctx, inode, handle, mode, offset, length)
    }

    fn statfs(&self, ctx: Context, inode: u64) -> io::Result<libc::statvfs64> {
        self.files.statfs(ctx, inode)
    }

    fn setxattr(
        &self,
        ctx: Context,
        inode: u64,
        name: &CStr,
        value: &[u8],
        flags: u32,
        extra_flags: SetxattrFlags,
    ) -> io::Result<()> {
        self.files
            .setxattr(ctx, inode, name, value, flags, extra_flags)
    }

    fn getxattr(
        &self,
        ctx: Context,
        inode: u64,
        name: &CStr,
        size: u32,
    ) -> io::Result<GetxattrReply> {
        self.files.getxattr(ctx, inode, name, size)
    }

    fn listxattr(&self, ctx: Context, inode: u64, size: u32) -> io::Result<ListxattrReply> {
        self.files.listxattr(ctx, inode, size)
    }

    fn removexattr(&self, ctx: Context, inode: u64, name: &CStr) -> io::Result<()> {
        self.files.removexattr(ctx, inode, name)
    }

    fn readdir(
        &self,
        ctx: Context,
        inode: u64,
        handle: u64,
        size: u32,
        offset: u64,
    ) -> io::Result<Self::DirIter> {
        self.files.readdir(ctx, inode, handle, size, offset)
    }

    fn fsyncdir(&self, ctx: Context, inode: u64, datasync: bool, handle: u64) -> io::Result<()> {
        self.files.fsyncdir(ctx, inode, datasync, handle)
    }

    fn access(&self, ctx: Context, inode: u64, mask: u32) -> io::Result<()> {
        self.files.access(ctx, inode, mask)
    }

    fn lseek(
        &self,
        ctx: Context,
        inode: u64,
        handle: u64,
        offset: u64,
        whence: u32,
    ) -> io::Result<u64> {
        self.files.lseek(ctx, inode, handle, offset, whence)
    }

    fn copyfilerange(
        &self,
        ctx: Context,
        inode_in: u64,
        handle_in: u64,
        offset_in: u64,
        inode_out: u64,
        handle_out: u64,
        offset_out: u64,
        len: u64,
        flags: u64,
    ) -> io::Result<usize> {
        self.files.copyfilerange(
            ctx, inode_in, handle_in, offset_in, inode_out, handle_out, offset_out, len, flags,
        )
    }

    fn syncfs(&self, ctx: Context, inode: u64) -> io::Result<()> {
        self.files.syncfs(ctx, inode)
    }
}
