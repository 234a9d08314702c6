//! One container's cgroup on the host: made before its owner does anything,
//! removed with the container.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cgroup::directory;
use crate::cgroup::directory::write;
use crate::cgroup::error::{Error, io};
use crate::cgroup::hierarchy::{Hierarchy, Host, Version};
use crate::cgroup::place::Place;
use crate::cgroup::property;
use crate::cgroup::property::Property;
use crate::cgroup::settings::{Files, Need, Setting};
use crate::cgroup::systemd;
use crate::cgroup::systemd::Bus;
use crate::process::pidfd::Pidfd;

/// Processes whose owner is gone end by themselves in this time, or are killed.
const END_LIMIT: Duration = Duration::from_secs(2);
const PROCESSES: &str = "cgroup.procs";

/// A cgroup of the host: one directory, or one per hierarchy of version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Interface of its files.
    pub version: Version,
    /// Records of version 1 have this name for it.
    #[serde(rename = "folders")]
    directories: Vec<GroupDirectory>,
    /// Directories above that were made for it, the outermost first.
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
struct GroupDirectory {
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
    /// `announce` is told of it before anything is made that only we would remove.
    ///
    /// # Errors
    /// When it can't be made, or is another's. Nothing is left then.
    pub fn establish(
        place: &Place,
        pid: i32,
        rootless: bool,
        announce: impl FnOnce(&Self),
    ) -> Result<Established, Error> {
        let (path, wanted) = match place {
            Place::Inherited => {
                return Ok(Established::Without("as it was asked for".into()));
            }
            Place::Scope {
                slice,
                unit,
                properties,
            } => {
                let made = Self::scope(slice.as_deref(), unit, properties, pid);
                return made.map(Established::Made);
            }
            Place::Directory { path, wanted } => (path, wanted),
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
        group.require_empty()?;
        group.require_thawed()?;
        announce(&group);
        // What is frozen above shows in a new one too.
        let made = group
            .make(&host)
            .and_then(|()| group.require_thawed())
            .and_then(|()| group.admit(pid));
        let Err(err) = made else {
            return Ok(Established::Made(group));
        };
        group.remove_what_is_there();
        if !wanted && err.is_lack_of_permission(rootless) {
            return Ok(Established::Without(crate::log::error_line::chain(&err)));
        }
        Err(err)
    }

    /// A scope has the same path in every hierarchy; of version 1, systemd makes it
    /// in some.
    fn scope(
        slice: Option<&str>,
        unit: &str,
        properties: &[Property],
        pid: i32,
    ) -> Result<Self, Error> {
        let bus = Bus::of_this_user();
        let host = Host::find().map_err(Error::Find)?;
        systemd::start(bus, slice, unit, properties, pid)?;
        let scope = Scope {
            bus,
            unit: unit.to_owned(),
        };
        let made = path_of(pid).map_err(Error::Find).and_then(|path| {
            let mut group = Self::located(&host, &path);
            group.scope = Some(scope.clone());
            if host.version == Version::V1 {
                group.make(&host)?;
                group.admit(pid)?;
            }
            Ok(group)
        });
        if made.is_err() {
            scope.stop();
        }
        made
    }

    /// Sets the limits that are in the files as properties of the scope, if there is
    /// one: systemd writes the files anew at times, such as when it is reloaded. Of version 1 it
    /// writes nothing that was not asked of it.
    ///
    /// # Errors
    /// When systemd refuses.
    pub fn set_scope_properties(&self) -> Result<(), Error> {
        let (Some(scope), Version::V2) = (&self.scope, self.version) else {
            return Ok(());
        };
        let directory = self.directories.first();
        let read = |file: &str| fs::read_to_string(directory?.path.join(file)).ok();
        let limits = property::of_files(read);
        Ok(systemd::change(scope.bus, &scope.unit, &limits)?)
    }

    fn located(host: &Host, path: &Path) -> Self {
        let directory = |hierarchy: &Hierarchy| GroupDirectory {
            controllers: hierarchy.controllers.clone(),
            path: hierarchy.directory(host.version, path),
            origin: hierarchy.own.clone(),
        };
        Self {
            version: host.version,
            directories: host.hierarchies.iter().map(directory).collect(),
            made_above: Vec::new(),
            scope: None,
        }
    }

    fn make(&mut self, host: &Host) -> Result<(), Error> {
        let mut made_above = Vec::new();
        for (directory, hierarchy) in self.directories.iter().zip(&host.hierarchies) {
            let result = directory::make(&directory.path, hierarchy, host.version, &mut made_above);
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

    fn require_thawed(&self) -> Result<(), Error> {
        let is = |directory: &GroupDirectory, file: &str, state: &str| {
            let text = fs::read_to_string(directory.path.join(file)).unwrap_or_default();
            text.lines().any(|line| line == state)
        };
        let is_frozen = |directory: &&GroupDirectory| {
            is(directory, "freezer.state", "FROZEN")
                || is(directory, "cgroup.freeze", "1")
                || is(directory, "cgroup.events", "frozen 1")
        };
        match self.directories.iter().find(is_frozen) {
            Some(directory) => Err(Error::Frozen(directory.path.clone())),
            None => Ok(()),
        }
    }

    /// Moves the process into it; what it starts from then on is in it too.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn admit(&self, pid: i32) -> Result<(), Error> {
        for directory in &self.directories {
            write(&directory.path, PROCESSES, &pid.to_string())
                .map_err(io("join", &directory.path))?;
        }
        Ok(())
    }

    /// The same, unless this user may not move processes between the two, or the
    /// cgroup has gone with the container's end.
    ///
    /// # Errors
    /// When the kernel refuses for another reason.
    pub fn admit_if_possible(&self, pid: i32) -> Result<(), Error> {
        const FINE: [ErrorKind; 2] = [ErrorKind::PermissionDenied, ErrorKind::NotFound];
        match self.admit(pid) {
            Err(Error::Io { source, .. }) if FINE.contains(&source.kind()) => Ok(()),
            other => other,
        }
    }

    /// Moves this process back to where it came from, and removes the cgroup.
    pub fn abandon(&self) {
        for directory in &self.directories {
            write(&directory.origin, PROCESSES, "0").ok();
        }
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        if !self.processes().contains(&own) {
            self.remove().ok();
        }
    }

    /// Which files it has.
    #[must_use]
    pub fn files(&self) -> Files {
        const WEIGHTS: [&str; 2] = ["blkio.bfq.weight", "io.bfq.weight"];
        let has = |directory: &GroupDirectory, file: &&str| directory.path.join(file).exists();
        let has_bfq = |directory: &GroupDirectory| WEIGHTS.iter().any(|file| has(directory, file));
        Files {
            version: self.version,
            has_bfq: self.directories.iter().any(has_bfq),
        }
    }

    /// Writes limits that the guest keeps exactly: they may fail, and the answer names
    /// those that do, a line each.
    pub fn limit_best_effort(&self, settings: &[Setting]) -> Vec<String> {
        let wider = settings
            .iter()
            .filter(|setting| setting.need == Need::Wider);
        wider
            .filter_map(|setting| self.set(setting).err())
            .map(|err| crate::log::error_line::chain(&err))
            .collect()
    }

    /// Writes limits that nobody else keeps, all or none. The answer takes them back,
    /// written in its order.
    ///
    /// # Errors
    /// [`Error::Set`] for the first that can't be had.
    pub fn limit_required(&self, settings: &[Setting]) -> Result<Vec<Setting>, Error> {
        let mut undo = Vec::new();
        for setting in settings.iter().filter(|setting| setting.need == Need::Only) {
            let before = self.before(setting);
            if let Err(err) = self.set(setting) {
                self.take_back(&undo);
                return Err(err);
            }
            undo.splice(0..0, before);
        }
        Ok(undo)
    }

    /// Undoes what [`Self::limit_required`] has written. What was there before can't be
    /// refused, unless the container is ending.
    pub fn take_back(&self, undo: &[Setting]) {
        for setting in undo {
            self.set(setting).ok();
        }
    }

    /// What brings back the present state once this has been written.
    fn before(&self, setting: &Setting) -> Option<Setting> {
        let path = self.directory_of(setting)?.path.join(setting.file);
        let present = fs::read_to_string(path).ok()?;
        Some(setting.undone(self.version, &present))
    }

    fn directory_of(&self, setting: &Setting) -> Option<&GroupDirectory> {
        let has_it = |directory: &&GroupDirectory| match self.version {
            Version::V1 => directory
                .controllers
                .iter()
                .any(|name| name == setting.controller),
            Version::V2 => true,
        };
        self.directories.iter().find(has_it)
    }

    fn set(&self, setting: &Setting) -> Result<(), Error> {
        let path = self
            .directory_of(setting)
            .map(|directory| directory.path.as_path());
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
        for directory in &self.directories {
            if let Err(source) = directory::remove_tree(&directory.path) {
                result = Err(io("remove", &directory.path)(source));
            }
        }
        // Another container may have been put beside this one meanwhile.
        for directory in self.made_above.iter().rev() {
            fs::remove_dir(directory).ok();
        }
        result
    }

    fn remove_what_is_there(&self) {
        for directory in &self.directories {
            fs::remove_dir(&directory.path).ok();
        }
        for directory in self.made_above.iter().rev() {
            fs::remove_dir(directory).ok();
        }
    }

    fn processes(&self) -> Vec<i32> {
        let read = |directory: &GroupDirectory| fs::read_to_string(directory.path.join(PROCESSES));
        let lists = self
            .directories
            .iter()
            .map(|directory| read(directory).unwrap_or_default());
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
