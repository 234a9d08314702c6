//! The state directory: one directory per container, with its record and socket.
//!
//! Owns names, files and their versions below `--root`; who may change them is
//! `private`'s. Knows nothing of machines; whether a container lives is read from
//! its owner's process.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::cgroup::Group;
use crate::hooks::Hooks;
use crate::host::private;
use crate::host::private::Directory;

/// Version of [`Record`]'s form; another is not read.
const RECORD_VERSION: u32 = 1;
const RECORD: &str = "state.json";
const SOCKET: &str = "owner.sock";

/// What can go wrong with the state directory. The texts follow runc's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that no container can have.
    #[error("invalid container ID format: {0:?} (letters, digits and _ + - . only)")]
    Id(String),
    /// The name is taken.
    #[error("container with given ID already exists: {0}")]
    Exists(String),
    /// No such container.
    #[error("container does not exist: {0}")]
    NotExist(String),
    /// The state directory can't be used.
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
    /// It can't be used, or others may change it.
    #[error(transparent)]
    Private(#[from] private::Error),
    /// A record of another version.
    #[error(
        "{}: state record of version {version}, and this caisson knows version {RECORD_VERSION}: the one that made the container can end it",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        version: u32,
    },
    /// A damaged record.
    #[error("{}: not a state record", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// `/` as state directory would make every directory of the host a container.
    #[error("--root / is refused: name a directory of its own")]
    Root,
}

/// What is kept of a container between two commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this form.
    pub version: u32,
    /// Name of the container.
    pub id: String,
    /// Version of the specification its config.json was written for.
    pub oci_version: String,
    /// The owner's process: the container's pid for its callers.
    pub pid: i32,
    /// Start time of that process in clock ticks since boot, against reused pids.
    pub pid_start: u64,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// Absolute path of the root file system.
    pub rootfs: PathBuf,
    /// Creation time, RFC 3339.
    pub created: String,
    /// Annotations of config.json.
    pub annotations: HashMap<String, String>,
    /// User who created it.
    pub owner_uid: u32,
    /// Memory of its machine, in MiB.
    pub mem_mib: u32,
    /// `process` of config.json: what `exec` starts from.
    pub process: serde_json::Value,
    /// The cgroup on the host, where it has one.
    pub cgroup: Option<Group>,
    /// What the host runs at turns of its life.
    pub hooks: Hooks,
    /// The network namespace that the caller made for it, if one did.
    #[serde(default)]
    pub network: Option<PathBuf>,
}

impl Record {
    /// A record of the present version, of a container without owner.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self {
            version: RECORD_VERSION,
            id: id.to_owned(),
            oci_version: String::new(),
            pid: 0,
            pid_start: 0,
            bundle: PathBuf::new(),
            rootfs: PathBuf::new(),
            created: humantime::format_rfc3339_nanos(std::time::SystemTime::now()).to_string(),
            annotations: HashMap::new(),
            owner_uid: nix::unistd::geteuid().as_raw(),
            mem_mib: 0,
            process: serde_json::Value::Null,
            cgroup: None,
            hooks: Hooks::default(),
            network: None,
        }
    }

    /// The same record, owned by the process that asks.
    #[must_use]
    pub fn owned_by_this_process(&self) -> Self {
        let pid = nix::unistd::getpid().as_raw();
        Self {
            pid,
            pid_start: process_start(pid).unwrap_or(0),
            ..self.clone()
        }
    }

    /// Whether the owner's process still runs.
    #[must_use]
    pub fn owner_lives(&self) -> bool {
        process_start(self.pid) == Some(self.pid_start)
    }
}

/// What every record says, of whichever version.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// Start time of a process that runs, none for one that is gone or a zombie.
fn process_start(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, so count from its end.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The directory below which all containers of one `--root` lie.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Uses `root`, which need not exist yet.
    ///
    /// # Errors
    /// [`Error::Root`] for the root directory itself.
    pub fn new(root: &Path) -> Result<Self, Error> {
        let absolute = std::path::absolute(root).map_err(io("resolve", root))?;
        if absolute == Path::new("/") {
            return Err(Error::Root);
        }
        Ok(Self { root: absolute })
    }

    /// The directory of the state of all containers.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Takes the name `id`: makes its directory, which no one else has, and holds it.
    ///
    /// # Errors
    /// [`Error::Exists`] when the name is taken, [`Error::Id`] when it can't be one.
    pub fn reserve(&self, id: &str) -> Result<(Entry, Flock<File>), Error> {
        check_id(id)?;
        let entry = Entry {
            id: id.to_owned(),
            dir: self.root.join(id),
        };
        loop {
            let root = Directory::make(&self.root)?;
            match root.make_below(OsStr::new(id)) {
                Err(private::Error::Io { source, .. })
                    if source.kind() == io::ErrorKind::AlreadyExists =>
                {
                    return Err(Error::Exists(id.to_owned()));
                }
                made => made?,
            }
            match entry.lock() {
                // Who found it empty took it for the rest of a creation that was killed.
                Err(Error::NotExist(_)) => {}
                held => return Ok((entry, held?)),
            }
        }
    }

    /// Makes the state directory, for what callers keep in it beside containers.
    ///
    /// # Errors
    /// When it can't be made, or others may write to it.
    pub fn make(&self) -> Result<Directory, Error> {
        Ok(Directory::make(&self.root)?)
    }

    /// The directory of a container that exists.
    ///
    /// # Errors
    /// [`Error::NotExist`] when there is none of that name.
    pub fn entry(&self, id: &str) -> Result<Entry, Error> {
        check_id(id)?;
        let entry = Entry {
            id: id.to_owned(),
            dir: self.root.join(id),
        };
        entry.directory().map(|_| entry)
    }

    /// Names of all containers, in order. What has such a name may be none: finding it
    /// tells.
    ///
    /// # Errors
    /// When the state directory exists and can't be read, or others may write to it.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let root = match Directory::open(&self.root) {
            Err(err) if err.is_not_found() => return Ok(Vec::new()),
            opened => opened?,
        };
        let directories = root.directories().map_err(io("read", &self.root))?;
        let names = directories.into_iter().map(OsString::into_string);
        let mut names: Vec<String> = names.filter_map(Result::ok).collect();
        names.retain(|name| check_id(name).is_ok());
        names.sort();
        Ok(names)
    }
}

/// The directory of one container.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Name of the container.
    pub id: String,
    dir: PathBuf,
}

impl Entry {
    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the container's owner listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join(SOCKET)
    }

    /// Writes the record, whole or not at all.
    ///
    /// # Errors
    /// When the directory can't be written, a full disk included.
    pub fn write(&self, record: &Record) -> Result<(), Error> {
        let encode = |source| Error::Record {
            path: self.dir.join(RECORD),
            source,
        };
        let text = serde_json::to_vec(record).map_err(encode)?;
        Ok(self.directory()?.replace(RECORD, &text)?)
    }

    /// Reads the record.
    ///
    /// # Errors
    /// [`Error::NotExist`] when creation never got that far; when others may have
    /// written it.
    pub fn read(&self) -> Result<Record, Error> {
        let path = self.dir.join(RECORD);
        let text = self
            .directory()?
            .read(RECORD)
            .map_err(|err| self.unless_missing(err))?;
        // First: of another version nothing else is known.
        let read = serde_json::from_slice(&text).and_then(|Version { version }| {
            let known = (version == RECORD_VERSION).then(|| serde_json::from_slice(&text));
            Ok((version, known.transpose()?))
        });
        match read {
            Ok((_, Some(record))) => Ok(record),
            Ok((version, None)) => Err(Error::Version { path, version }),
            Err(source) => Err(Error::Record { path, source }),
        }
    }

    /// Holds the container for one command that creates or ends it.
    ///
    /// # Errors
    /// [`Error::NotExist`] when another command has removed it meanwhile, even if
    /// there is one of that name again.
    pub fn lock(&self) -> Result<Flock<File>, Error> {
        let lock = Flock::lock(self.directory()?.into_file(), FlockArg::LockExclusive)
            .map_err(|(_, errno)| io("lock", &self.dir)(errno.into()))?;
        let held = lock.metadata().map_err(io("look at", &self.dir))?;
        let named = self.directory()?.into_file();
        let named = named.metadata().map_err(io("look at", &self.dir))?;
        if (named.dev(), named.ino()) == (held.dev(), held.ino()) {
            Ok(lock)
        } else {
            Err(Error::NotExist(self.id.clone()))
        }
    }

    /// Forgets the container.
    ///
    /// # Errors
    /// When its directory can't be removed.
    pub fn remove(&self) -> Result<(), Error> {
        let removed = self.root()?.remove_below(OsStr::new(&self.id));
        match removed {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(io("remove", &self.dir)(err)),
            _ => Ok(()),
        }
    }

    fn root(&self) -> Result<Directory, Error> {
        let root = self.dir.parent().unwrap_or_else(|| Path::new("/"));
        Directory::open(root).map_err(|err| self.unless_missing(err))
    }

    fn directory(&self) -> Result<Directory, Error> {
        let opened = self.root()?.open_below(OsStr::new(&self.id));
        opened.map_err(|err| self.unless_missing(err))
    }

    fn unless_missing(&self, err: private::Error) -> Error {
        if err.is_not_found() {
            Error::NotExist(self.id.clone())
        } else {
            err.into()
        }
    }
}

fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// runc's rule for names, which keeps them inside the state directory.
fn check_id(id: &str) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    let valid = !id.is_empty() && id != "." && id != ".." && id.bytes().all(allowed);
    if valid {
        Ok(())
    } else {
        Err(Error::Id(id.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside_the_state_folder() {
        for id in ["a", "web-1", "A_b+c.d", "..."] {
            check_id(id).unwrap();
        }
        for id in ["", ".", "..", "a/b", "a b", "ä", "a\n"] {
            check_id(id).unwrap_err();
        }
    }

    #[test]
    fn a_name_can_be_taken_once_and_again_after_removal() {
        let folder = std::env::temp_dir().join(format!("caisson-store-{}", std::process::id()));
        let store = Store::new(&folder).unwrap();
        let (entry, held) = store.reserve("one").unwrap();
        assert!(matches!(store.reserve("one"), Err(Error::Exists(_))));
        drop(held);
        assert!(matches!(entry.read(), Err(Error::NotExist(_))));
        entry
            .write(&Record::new("one").owned_by_this_process())
            .unwrap();
        assert!(entry.read().unwrap().owner_lives());
        assert_eq!(store.names().unwrap(), ["one"]);
        entry.remove().unwrap();
        assert!(matches!(store.entry("one"), Err(Error::NotExist(_))));
        fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn who_waited_for_one_that_was_removed_does_not_hold_its_successor() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path()).unwrap();
        let (entry, held) = store.reserve("one").unwrap();
        let waiting = {
            let entry = entry.clone();
            std::thread::spawn(move || entry.lock().map(drop))
        };
        while !waits_for_a_lock(&entry) {
            std::thread::yield_now();
        }
        entry.remove().unwrap();
        let (_, _successor) = store.reserve("one").unwrap();
        drop(held);
        let waited = waiting.join().unwrap();
        assert!(matches!(waited, Err(Error::NotExist(_))), "{waited:?}");
    }

    /// A waiter stands behind an arrow in the kernel's list.
    fn waits_for_a_lock(entry: &Entry) -> bool {
        let inode = format!(":{} ", fs::metadata(&entry.dir).unwrap().ino());
        let locks = fs::read_to_string("/proc/locks").unwrap();
        locks
            .lines()
            .any(|line| line.contains("->") && line.contains(&inode))
    }

    #[test]
    fn a_reused_pid_is_not_the_owner() {
        let record = Record {
            pid_start: 1,
            ..Record::new("x").owned_by_this_process()
        };
        assert!(!record.owner_lives());
    }
}
