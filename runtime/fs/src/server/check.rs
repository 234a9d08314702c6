//! What a request may say before the file system sees it. The library trusts its
//! guest in places: it gives up on an offset that is no file's, on an answer without
//! room for its header, and on lengths that disagree.
//!
//! Owns the rules, as a pure function of bytes. Does not own reading them, which is
//! `request`'s, nor what they mean for files.

use virtiofsd::fuse::{
    AttrOut, BatchForgetIn, CreateIn, EntryOut, ForgetOne, FsOptions, GetxattrIn, GetxattrOut,
    InitInCompat, InitOut, Kstatfs, LinkIn, LseekOut, MkdirIn, MknodIn, Opcode, OpenOut, ReadIn,
    Rename2In, RenameIn, WriteIn, WriteOut,
};
use vm_memory::ByteValued;

use super::request::{ANSWER_HEADER, MAX_DATA};

/// A request, as far as rules are about it.
pub(super) struct Question<'a> {
    /// What is asked for.
    pub(super) opcode: u32,
    /// What follows the header; without the data of a WRITE.
    pub(super) body: &'a [u8],
    /// Bytes that a WRITE is to write.
    pub(super) data_len: usize,
    /// Bytes of room for the answer, its header included.
    pub(super) room: usize,
}

/// How many bytes the answer to `question` has at most, its header included.
///
/// # Errors
/// The errno to answer with.
pub(super) fn check(question: &Question<'_>) -> Result<usize, i32> {
    let opcode = Opcode::try_from(question.opcode).map_err(|_| libc::ENOSYS)?;
    if names(opcode, question.body).any(|name| !is_plain(name)) {
        return Err(libc::EINVAL);
    }
    let room = question.room.saturating_sub(ANSWER_HEADER);
    let needed = match opcode {
        Opcode::Read => read(question, room)?,
        Opcode::Write => write(question)?,
        Opcode::Readdir | Opcode::Readdirplus => read_directory(question, room)?,
        Opcode::Getxattr | Opcode::Listxattr => attribute(question, room)?,
        Opcode::Init => init(question)?,
        Opcode::BatchForget => batch_forget(question)?,
        // How long a link is shows only when it is read.
        Opcode::Readlink => room,
        other => fixed_answer(other),
    };
    if needed > room && !super::request::goes_unanswered(question.opcode) {
        return Err(libc::EINVAL);
    }
    Ok(ANSWER_HEADER + needed)
}

fn fixed_answer(opcode: Opcode) -> usize {
    match opcode {
        Opcode::Lookup | Opcode::Symlink | Opcode::Mknod | Opcode::Mkdir | Opcode::Link => {
            size_of::<EntryOut>()
        }
        Opcode::Create => size_of::<EntryOut>() + size_of::<OpenOut>(),
        Opcode::Getattr | Opcode::Setattr => size_of::<AttrOut>(),
        Opcode::Open | Opcode::Opendir => size_of::<OpenOut>(),
        Opcode::CopyFileRange => size_of::<WriteOut>(),
        Opcode::Statfs => size_of::<Kstatfs>(),
        Opcode::Lseek => size_of::<LseekOut>(),
        _ => 0,
    }
}

fn read(question: &Question<'_>, room: usize) -> Result<usize, i32> {
    let read: ReadIn = start_of(question.body)?;
    let size = data_size(read.size)?;
    if size > room || ends_beyond_files(read.offset, size) {
        return Err(libc::EINVAL);
    }
    Ok(size)
}

fn write(question: &Question<'_>) -> Result<usize, i32> {
    let write: WriteIn = start_of(question.body)?;
    let size = data_size(write.size)?;
    if size != question.data_len || ends_beyond_files(write.offset, size) {
        return Err(libc::EINVAL);
    }
    Ok(size_of::<WriteOut>())
}

fn read_directory(question: &Question<'_>, room: usize) -> Result<usize, i32> {
    let read: ReadIn = start_of(question.body)?;
    let size = data_size(read.size)?;
    if size > room {
        return Err(libc::EINVAL);
    }
    Ok(size)
}

fn attribute(question: &Question<'_>, room: usize) -> Result<usize, i32> {
    let get: GetxattrIn = start_of(question.body)?;
    let size = data_size(get.size)?;
    if size > room {
        return Err(libc::EINVAL);
    }
    Ok(if size == 0 {
        size_of::<GetxattrOut>()
    } else {
        size
    })
}

fn batch_forget(question: &Question<'_>) -> Result<usize, i32> {
    let batch: BatchForgetIn = start_of(question.body)?;
    let len = size_of::<BatchForgetIn>() + batch.count as usize * size_of::<ForgetOne>();
    if len > question.body.len() {
        return Err(libc::EINVAL);
    }
    Ok(0)
}

/// Without submounts, files of two shares with equal numbers would be one to the guest.
fn init(question: &Question<'_>) -> Result<usize, i32> {
    let init: InitInCompat = start_of(question.body)?;
    let offered = FsOptions::from_bits_truncate(u64::from(init.flags));
    if !offered.contains(FsOptions::SUBMOUNTS) {
        return Err(libc::EPROTO);
    }
    Ok(size_of::<InitOut>())
}

fn data_size(size: u32) -> Result<usize, i32> {
    match usize::try_from(size) {
        Ok(size) if size <= MAX_DATA => Ok(size),
        _ => Err(libc::EINVAL),
    }
}

/// Offsets in files are signed to the kernel.
fn ends_beyond_files(offset: u64, size: usize) -> bool {
    let end = offset.checked_add(size as u64);
    end.is_none_or(|end| i64::try_from(end).is_err())
}

fn start_of<T: ByteValued>(body: &[u8]) -> Result<T, i32> {
    let start = body.get(..size_of::<T>()).ok_or(libc::EINVAL)?;
    let mut value = T::zeroed();
    value.as_mut_slice().copy_from_slice(start);
    Ok(value)
}

/// The names of directory entries in a request. One that isn't there is a name that
/// isn't plain.
fn names(opcode: Opcode, body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (before, count) = match opcode {
        Opcode::Lookup | Opcode::Unlink | Opcode::Rmdir | Opcode::Symlink => (0, 1),
        Opcode::Mknod => (size_of::<MknodIn>(), 1),
        Opcode::Mkdir => (size_of::<MkdirIn>(), 1),
        Opcode::Link => (size_of::<LinkIn>(), 1),
        Opcode::Create => (size_of::<CreateIn>(), 1),
        Opcode::Rename => (size_of::<RenameIn>(), 2),
        Opcode::Rename2 => (size_of::<Rename2In>(), 2),
        _ => (0, 0),
    };
    let mut rest = body.get(before..).unwrap_or_default();
    (0..count).map(move |_| {
        let end = rest.iter().position(|byte| *byte == 0);
        let name = end.and_then(|end| rest.get(..end)).unwrap_or_default();
        rest = rest.get(name.len() + 1..).unwrap_or_default();
        name
    })
}

/// The name of an entry in one directory, which leads nowhere else.
fn is_plain(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/')
}
