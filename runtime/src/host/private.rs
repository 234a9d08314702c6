//! Directories, files and sockets that nobody but this user and root may change or
//! reach.
//!
//! Owns their modes, which hold whatever the umask is, and the checks before
//! something found is trusted: a record names programs that root runs. Everything
//! is named relative to an open directory, and no symbolic link in it is followed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat, renameat, unlinkat,
};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Of a directory.
const DIRECTORY_MODE: u32 = 0o700;
/// Of a file or a socket.
const FILE_MODE: u32 = 0o600;
/// Writable by the group or by all others.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Bits of a mode that chmod(2) sets.
const PERMISSIONS: u32 = 0o7777;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Why something is not trusted, or can't be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused.
    #[error("{action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It belongs to a user who may not decide for this one.
    #[error(
        "{} belongs to user {owner}, and only what belongs to user {own} or to root is trusted: remove it, or name another state directory with --root",
        path.display()
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who asks.
        own: u32,
    },
    /// Others may change it.
    #[error(
        "{} may be written to by others (mode {mode:04o}), so that nothing in it can be trusted: look what is in it, then `chmod go-w` it, or name another state directory with --root",
        path.display()
    )]
    Writable {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is no directory, file or socket, whichever it should be.
    #[error("{} is not a {wanted}: remove it", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// What it should be.
        wanted: &'static str,
    },
}

impl Error {
    /// Whether there is nothing of that name.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

fn io_error<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        action,
        path,
        source: source.into(),
    }
}

/// A directory that was found to be trusted, open.
#[derive(Debug)]
pub struct Directory {
    file: File,
    path: PathBuf,
}

impl Directory {
    /// Opens a directory that exists. It may be readable by everybody, as engines make
    /// theirs. Links above it are followed; the last name may be a link only if it is
    /// this user's or root's.
    ///
    /// # Errors
    /// When somebody else's, or others may write to it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let named = fs::symlink_metadata(path).map_err(io_error("open", path))?;
        if named.is_symlink() {
            check_owner(named.uid(), path)?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty());
        Self::checked(opened, path)
    }

    /// Opens a directory, which is made with all that is missing above it.
    ///
    /// # Errors
    /// As [`Directory::open`], and when it can't be made.
    pub fn make(path: &Path) -> Result<Self, Error> {
        make_path(path).map_err(io_error("create", path))?;
        Self::open(path)
    }

    /// Opens the directory `name` in this one.
    ///
    /// # Errors
    /// As [`Directory::open`]; a link is none.
    pub fn open_below(&self, name: &OsStr) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(&self.file, name, flags, Mode::empty());
        Self::checked(opened, &self.path.join(name))
    }

    /// Makes the directory `name`, which must not exist.
    ///
    /// # Errors
    /// When it exists, or can't be made.
    pub fn make_below(&self, name: &OsStr) -> Result<(), Error> {
        let path = self.path.join(name);
        mkdirat(&self.file, name, Mode::from_raw_mode(DIRECTORY_MODE))
            .map_err(io::Error::from)
            .and_then(|()| set_mode(&self.file, name, DIRECTORY_MODE))
            .map_err(io_error("create", &path))
    }

    /// What the file `name` holds.
    ///
    /// # Errors
    /// When it is somebody else's, others may write to it, or it can't be read.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        let path = self.path.join(name);
        // A fifo of that name must not be waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = openat(&self.file, name, flags, Mode::empty());
        let mut file = File::from(opened.map_err(|errno| not_opened(errno, &path, "file"))?);
        check(&file, &path, FileType::RegularFile, "file")?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(io_error("read", &path))?;
        Ok(bytes)
    }

    /// Writes the file `name`, whole or not at all.
    ///
    /// # Errors
    /// When the directory can't be written, a full disk included.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let draft = format!(".{name}");
        let written = self
            .create(&draft)
            .and_then(|mut file| file.write_all(bytes))
            .and_then(|()| Ok(renameat(&self.file, &draft, &self.file, name)?));
        written.map_err(io_error("write", &self.path.join(name)))
    }

    /// What a command that was killed has left is replaced.
    fn create(&self, name: &str) -> io::Result<File> {
        match unlinkat(&self.file, name, AtFlags::empty()) {
            Err(errno) if errno != Errno::NOENT => return Err(errno.into()),
            _ => {}
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(FILE_MODE);
        let file = File::from(openat(&self.file, name, flags, mode)?);
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        Ok(file)
    }

    /// Listens at the socket `name`, which must not exist.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn listen(&self, name: &OsStr) -> Result<UnixListener, Error> {
        let listening = self.bind(name).and_then(|socket| {
            rustix::net::listen(&socket, BACKLOG)?;
            Ok(socket.into())
        });
        listening.map_err(io_error("listen at", &self.path.join(name)))
    }

    /// A socket that nobody can connect to yet, with its mode.
    fn bind(&self, name: &OsStr) -> io::Result<OwnedFd> {
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        // Its path is how the listener itself, and those who look for it, know it.
        let address = SocketAddrUnix::new(self.path.join(name))
            .or_else(|_| SocketAddrUnix::new(self.short_name(name)))?;
        rustix::net::bind(&socket, &address)?;
        // Fails if the path has led to another directory than this one.
        set_mode(&self.file, name, FILE_MODE)?;
        Ok(socket)
    }

    /// Connects to the socket `name`, where this user or root listens.
    ///
    /// # Errors
    /// When nobody listens there, or somebody else does.
    pub fn connect(&self, name: &OsStr) -> Result<UnixStream, Error> {
        let path = self.path.join(name);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let socket = openat(&self.file, name, flags, Mode::empty())
            .map_err(io_error("connect to", &path))?;
        check(&socket, &path, FileType::Socket, "socket")?;
        let stream =
            UnixStream::connect(by_number(&socket)).map_err(io_error("connect to", &path))?;
        let peer = peer_uid(&stream).map_err(io_error("connect to", &path))?;
        check_owner(peer, &path)?;
        Ok(stream)
    }

    /// A listening socket, and the only connection it will ever have: it has no name by
    /// the time it listens.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn nameless_pair(&self, name: &OsStr) -> io::Result<(UnixListener, UnixStream)> {
        let socket = self.bind(name)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let bound = openat(&self.file, name, flags, Mode::empty())?;
        unlinkat(&self.file, name, AtFlags::empty())?;
        rustix::net::listen(&socket, 1)?;
        let stream = UnixStream::connect(by_number(&bound))?;
        Ok((socket.into(), stream))
    }

    /// Removes the directory `name` in this one with all that is in it.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn remove_below(&self, name: &OsStr) -> io::Result<()> {
        // No link is followed below the number.
        fs::remove_dir_all(self.short_name(name))
    }

    /// Names of the directories in it, and of links, which may lead to some.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn directories(&self) -> io::Result<Vec<OsString>> {
        let read = fs::read_dir(by_number(&self.file))?;
        let may_be_one = |entry: &fs::DirEntry| {
            let kind = entry.file_type();
            kind.is_ok_and(|kind| kind.is_dir() || kind.is_symlink())
        };
        let entries = read.flatten().filter(may_be_one);
        Ok(entries.map(|entry| entry.file_name()).collect())
    }

    /// The open directory itself, to be locked.
    #[must_use]
    pub fn into_file(self) -> File {
        self.file
    }

    /// Socket addresses hold 107 bytes of path; a state directory may be deeper.
    fn short_name(&self, name: &OsStr) -> PathBuf {
        by_number(&self.file).join(name)
    }

    fn checked(opened: Result<OwnedFd, Errno>, path: &Path) -> Result<Self, Error> {
        let file = opened.map_err(|errno| not_opened(errno, path, "directory"))?;
        check(&file, path, FileType::Directory, "directory")?;
        Ok(Self {
            file: file.into(),
            path: path.to_owned(),
        })
    }
}

/// Whether whoever is at the other end of a socket is this user or root.
///
/// # Errors
/// When the kernel does not tell.
pub fn is_trusted(stream: &UnixStream) -> io::Result<bool> {
    Ok(is_trusted_uid(peer_uid(stream)?))
}

/// By the ids of this process's user namespace: one that has no id in it is shown as
/// the overflow id, which is not trusted.
fn peer_uid(stream: &UnixStream) -> io::Result<u32> {
    Ok(getsockopt(stream, PeerCredentials)?.uid())
}

/// Root of this process's user namespace can do everything to it anyway.
fn is_trusted_uid(uid: u32) -> bool {
    uid == 0 || uid == own_uid()
}

fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

fn check_owner(owner: u32, path: &Path) -> Result<(), Error> {
    if is_trusted_uid(owner) {
        return Ok(());
    }
    Err(Error::Owner {
        path: path.to_owned(),
        owner,
        own: own_uid(),
    })
}

fn check(
    opened: impl AsFd,
    path: &Path,
    kind: FileType,
    wanted: &'static str,
) -> Result<(), Error> {
    let stat: Stat = fstat(opened).map_err(io_error("look at", path))?;
    if FileType::from_raw_mode(stat.st_mode) != kind {
        let path = path.to_owned();
        return Err(Error::Kind { path, wanted });
    }
    check_owner(stat.st_uid, path)?;
    if stat.st_mode & WRITABLE_BY_OTHERS != 0 {
        return Err(Error::Writable {
            path: path.to_owned(),
            mode: stat.st_mode & PERMISSIONS,
        });
    }
    Ok(())
}

fn not_opened(errno: Errno, path: &Path, wanted: &'static str) -> Error {
    match errno {
        Errno::LOOP | Errno::NOTDIR | Errno::NXIO => Error::Kind {
            path: path.to_owned(),
            wanted,
        },
        errno => io_error("open", path)(errno),
    }
}

fn by_number(opened: impl AsFd) -> PathBuf {
    Path::new("/proc/self/fd").join(opened.as_fd().as_raw_fd().to_string())
}

/// Makes what is missing. What is there already is nobody's business here.
fn make_path(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            let above = path.parent().ok_or(err)?;
            make_path(above)?;
            DirBuilder::new().mode(DIRECTORY_MODE).create(path)?;
        }
        made => made?,
    }
    let name = path.file_name().unwrap_or_default();
    let above = path.parent().unwrap_or_else(|| Path::new("/"));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let above = rustix::fs::open(above, flags, Mode::empty())?;
    set_mode(&above, name, DIRECTORY_MODE)
}

/// Sets the mode of what this process has just made: the umask has taken bits away.
fn set_mode(directory: impl AsFd, name: &OsStr, mode: u32) -> io::Result<()> {
    // Opened without permissions, which the umask may have taken away from its owner.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat(directory, name, flags, Mode::empty())?;
    let stat = fstat(&made)?;
    if stat.st_uid != own_uid() {
        return Err(io::Error::other("it has been replaced meanwhile"));
    }
    fs::set_permissions(by_number(&made), Permissions::from_mode(mode))
}

#[cfg(test)]
#[path = "private_test.rs"]
mod tests;
