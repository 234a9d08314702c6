//! One container's cgroup on the host: made before its owner does anything,
//! removed with the container.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::hierarchy::{Hierarchy, Host, Version};
use super::place::Place;
use super::settings::{Need, Setting};
use super::systemd::{self, Bus};
use crate::pidfd::Pidfd;

/// Processes whose owner is gone end by themselves in this time, or are killed.
const END_LIMIT: Duration = Duration::from_secs(2);
const PROCESSES: &str = "cgroup.procs";
/// What containers may be limited by (version 2 hands controllers down one by one).
const CONTROLLERS: [&str; 6] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];

/// What can go wrong with a cgroup.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host's hierarchies can't be read.
    #[error("read the host's cgroups")]
    Find(#[source] io::Error),
    /// config.json names a cgroup, and there are none.
    #[error("linux.cgroupsPath: no cgroup file system is mounted")]
    Unmounted,
    /// A folder, or a file in it, can't be made, written or removed.
    #[error("{doing} cgroup {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// systemd can't make it.
    #[error(transparent)]
    Systemd(#[from] systemd::Error),
    /// Someone else lives there. The text is runc's.
    #[error("container's cgroup is not empty: {count} process(es) found")]
    Occupied {
        /// How many.
        count: usize,
    },
    /// A limit that nobody else would keep.
    #[error("set {file} of cgroup {} to {value:?}", path.display())]
    Set {
        /// The file.
        file: &'static str,
        /// What should have been written.
        value: String,
        /// The cgroup.
        path: PathBuf,
        /// Why it could not be.
        #[source]
        source: io::Error,
    },
}

/// A cgroup of the host: one folder, or one per hierarchy of version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Interface of its files.
    pub version: Version,
    folders: Vec<Folder>,
    /// Folders above that were made for it, the outermost first.
    made_above: Vec<PathBuf>,
    scope: Option<Scope>,
}

/// A unit of systemd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Scope {
    bus: Bus,
    unit: String,
}

impl Scope {
    fn stop(&self) {
        systemd::stop(self.bus, &self.unit);
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Folder {
    controllers: Vec<String>,
    path: PathBuf,
    /// Where its processes came from.
    origin: PathBuf,
}

/// What has become of the wish for a cgroup.
#[derive(Debug)]
pub enum Established {
    /// It is there, with the process in it.
    Made(Group),
    /// The process stays where it is; why.
    Without(String),
}

impl Group {
    /// Makes the cgroup at `place` and moves the process `pid` into it. A host
    /// that gives none is no failure where none was asked for by name, and,
    /// unless it has none to give, the user is not root.
    ///
    /// # Errors
    /// When it can't be made, or is another's. Nothing is left then.
    pub fn establish(place: &Place, pid: i32, rootless: bool) -> Result<Established, Error> {
        let (path, wanted) = match place {
            Place::Inherited => {
                return Ok(Established::Without("as it was asked for".into()));
            }
            Place::Scope { slice, unit } => {
                let slice = slice.as_deref();
                return Self::scope(slice, unit, pid).map(Established::Made);
            }
            Place::Folder { path, wanted } => (path, wanted),
        };
        let host = Host::find().map_err(Error::Find)?;
        match (host.hierarchies.is_empty(), wanted) {
            (false, _) => {}
            (true, true) => return Err(Error::Unmounted),
            (true, false) => {
                let reason = "no cgroup file system is mounted".into();
                return Ok(Established::Without(reason));
            }
        }
        let mut group = Self::located(&host, path);
        let made = group
            .make(&host)
            .and_then(|()| group.require_empty())
            .and_then(|()| group.admit(pid));
        let Err(err) = made else {
            return Ok(Established::Made(group));
        };
        group.remove_what_is_there();
        if !wanted && err.is_lack_of_permission(rootless) {
            return Ok(Established::Without(crate::cli::chain(&err)));
        }
        Err(err)
    }

    /// A scope has the same path in every hierarchy; systemd makes it in some.
    fn scope(slice: Option<&str>, unit: &str, pid: i32) -> Result<Self, Error> {
        let bus = if nix::unistd::geteuid().is_root() {
            Bus::System
        } else {
            Bus::User
        };
        let host = Host::find().map_err(Error::Find)?;
        systemd::start(bus, slice, unit, pid)?;
        let scope = Scope {
            bus,
            unit: unit.to_owned(),
        };
        let made = path_of(pid).map_err(Error::Find).and_then(|path| {
            let mut group = Self::located(&host, &path);
            group.scope = Some(scope.clone());
            group.make(&host)?;
            group.admit(pid)?;
            Ok(group)
        });
        if made.is_err() {
            scope.stop();
        }
        made
    }

    fn located(host: &Host, path: &Path) -> Self {
        let folder = |hierarchy: &Hierarchy| Folder {
            controllers: hierarchy.controllers.clone(),
            path: hierarchy.folder(host.version, path),
            origin: hierarchy.own.clone(),
        };
        Self {
            version: host.version,
            folders: host.hierarchies.iter().map(folder).collect(),
            made_above: Vec::new(),
            scope: None,
        }
    }

    fn make(&mut self, host: &Host) -> Result<(), Error> {
        let mut made_above = Vec::new();
        for (folder, hierarchy) in self.folders.iter().zip(&host.hierarchies) {
            let result = make_folder(&folder.path, hierarchy, host.version, &mut made_above);
            self.made_above.clone_from(&made_above);
            result?;
        }
        Ok(())
    }

    fn require_empty(&self) -> Result<(), Error> {
        let count = self.processes().len();
        if count > 0 {
            return Err(Error::Occupied { count });
        }
        Ok(())
    }

    /// Moves the process into it; what it starts from then on is in it too.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn admit(&self, pid: i32) -> Result<(), Error> {
        for folder in &self.folders {
            write(&folder.path, PROCESSES, &pid.to_string()).map_err(io("join", &folder.path))?;
        }
        Ok(())
    }

    /// Moves this process back to where it came from, and removes the cgroup.
    pub fn abandon(&self) {
        for folder in &self.folders {
            write(&folder.origin, PROCESSES, "0").ok();
        }
        self.remove_what_is_there();
    }

    /// Writes limits. Those that the guest keeps exactly may fail: the answer
    /// names them, a line each.
    ///
    /// # Errors
    /// [`Error::Set`] for the others.
    pub fn limit(&self, settings: &[Setting]) -> Result<Vec<String>, Error> {
        let mut unset = Vec::new();
        for setting in settings {
            match (self.set(setting), setting.need) {
                (Ok(()), _) => {}
                (Err(err), Need::Wider) => unset.push(crate::cli::chain(&err)),
                (Err(err), Need::Only) => return Err(err),
            }
        }
        Ok(unset)
    }

    fn set(&self, setting: &Setting) -> Result<(), Error> {
        let has_it = |folder: &&Folder| match self.version {
            Version::V1 => folder
                .controllers
                .iter()
                .any(|name| name == setting.controller),
            Version::V2 => true,
        };
        let folder = self.folders.iter().find(has_it);
        let path = folder.map(|folder| folder.path.as_path());
        let written = match path {
            Some(path) => write(path, setting.file, &setting.value),
            None => Err(ErrorKind::NotFound.into()),
        };
        written.map_err(|source| Error::Set {
            file: setting.file,
            value: setting.value.clone(),
            path: path.unwrap_or_else(|| Path::new("")).to_owned(),
            source,
        })
    }

    /// Removes the cgroup, once the last process in it has ended; a process
    /// that does not end is killed. One that is gone already is a success.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn remove(&self) -> Result<(), Error> {
        self.await_end();
        if let Some(scope) = &self.scope {
            scope.stop();
        }
        let mut result = Ok(());
        for folder in &self.folders {
            if let Err(source) = remove_tree(&folder.path) {
                result = Err(io("remove", &folder.path)(source));
            }
        }
        // Another container may have been put beside this one meanwhile.
        for folder in self.made_above.iter().rev() {
            fs::remove_dir(folder).ok();
        }
        result
    }

    fn remove_what_is_there(&self) {
        for folder in &self.folders {
            fs::remove_dir(&folder.path).ok();
        }
        for folder in self.made_above.iter().rev() {
            fs::remove_dir(folder).ok();
        }
    }

    fn processes(&self) -> Vec<i32> {
        let read = |folder: &Folder| fs::read_to_string(folder.path.join(PROCESSES));
        let lists = self
            .folders
            .iter()
            .map(|folder| read(folder).unwrap_or_default());
        let mut pids: Vec<i32> = lists
            .flat_map(|list| {
                list.lines()
                    .filter_map(|pid| pid.parse().ok())
                    .collect::<Vec<_>>()
            })
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    fn await_end(&self) {
        let deadline = Instant::now() + END_LIMIT;
        // A few rounds: a process may start another while it ends.
        for _ in 0..4 {
            let pids = self.processes().into_iter();
            let processes: Vec<Pidfd> = pids.filter_map(|pid| Pidfd::of(pid).ok()).collect();
            if processes.is_empty() {
                break;
            }
            for process in processes {
                let left = deadline.saturating_duration_since(Instant::now());
                end(&process, left);
            }
        }
    }
}

impl Error {
    /// Whether this is a host that gives this user no cgroup. One that gives
    /// root none, as in a container, has them mounted read-only.
    fn is_lack_of_permission(&self, rootless: bool) -> bool {
        let Self::Io { source, .. } = self else {
            return false;
        };
        match source.kind() {
            ErrorKind::ReadOnlyFilesystem => true,
            ErrorKind::PermissionDenied => rootless,
            _ => false,
        }
    }
}

/// Where systemd has put a process.
fn path_of(pid: i32) -> io::Result<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let of = |start: &str| text.lines().find_map(|line| line.split_once(start));
    let found = of(":name=systemd:").or_else(|| of("0::"));
    let (_, path) = found.ok_or(ErrorKind::NotFound)?;
    Ok(path.into())
}

/// Waits for so long, then kills.
fn end(process: &Pidfd, limit: Duration) {
    if !process.ends_within(limit) {
        process.kill();
        process.ends_within(END_LIMIT);
    }
}

/// Makes `path` and what it lacks above, with the controllers handed down.
fn make_folder(
    path: &Path,
    hierarchy: &Hierarchy,
    version: Version,
    made_above: &mut Vec<PathBuf>,
) -> Result<(), Error> {
    let mut above: Vec<&Path> = path
        .ancestors()
        .skip(1)
        .take_while(|folder| folder.starts_with(&hierarchy.mount))
        .collect();
    above.reverse();
    for folder in above {
        if make_one(folder, hierarchy)? {
            made_above.push(folder.to_owned());
        }
        if version == Version::V2 {
            hand_down_controllers(folder);
        }
    }
    make_one(path, hierarchy).map(drop)
}

/// Whether it was missing.
fn make_one(folder: &Path, hierarchy: &Hierarchy) -> Result<bool, Error> {
    let made = match fs::create_dir(folder) {
        Ok(()) => true,
        Err(err) if err.kind() == ErrorKind::AlreadyExists => false,
        Err(source) => return Err(io("create", folder)(source)),
    };
    // No process can live in a new cgroup of this controller otherwise.
    if made && hierarchy.controllers.iter().any(|name| name == "cpuset") {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            inherit(folder, file).map_err(io("prepare", folder))?;
        }
    }
    Ok(made)
}

fn inherit(folder: &Path, file: &str) -> io::Result<()> {
    let parent = folder.parent().unwrap_or(folder);
    let value = fs::read_to_string(parent.join(file))?;
    write(folder, file, value.trim_end())
}

/// Each by itself: what this host lacks, or doesn't hand out, shows when a limit needs it.
fn hand_down_controllers(folder: &Path) {
    let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap_or_default();
    let (there, down) = (read("cgroup.controllers"), read("cgroup.subtree_control"));
    let has = |list: &str, name: &str| list.split_whitespace().any(|word| word == name);
    for name in CONTROLLERS {
        if has(&there, name) && !has(&down, name) {
            write(folder, "cgroup.subtree_control", &format!("+{name}")).ok();
        }
    }
}

/// Whatever was made below it, by hooks maybe, goes first.
fn remove_tree(folder: &Path) -> io::Result<()> {
    let gone = |result: io::Result<()>| match result {
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    };
    let first = gone(fs::remove_dir(folder));
    if first.is_ok() {
        return Ok(());
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    gone(fs::remove_dir(folder))
}

/// The kernel takes each value as one write, and files are never made here.
fn write(folder: &Path, file: &str, value: &str) -> io::Result<()> {
    use std::io::Write;
    let mut file = fs::File::options().write(true).open(folder.join(file))?;
    file.write_all(value.as_bytes())
}

fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}
