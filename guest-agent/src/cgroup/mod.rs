//! One container's cgroup: its limits, its processes, its end.
//!
//! Version 2 only. Owns the directory below [`ROOT`]. `limits` (with `cpu`, `io` and
//! `state`) and `devices` translate the configuration, `statistics` reads what is
//! used, `watch` waits for the kernel to change a file.

mod cpu;
mod devices;
mod io;
mod limits;
mod setting;
mod state;
mod statistics;
mod watch;

use std::{
    fs::{self, File},
    io::{Error, ErrorKind, Result as IoResult, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path, PathBuf},
    time::Duration,
};

use caisson_protocol::server::agent::Statistics;
use setting::{Origin, Setting};

use nix::unistd::Pid;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};

use crate::{
    failure::{Attempt, Errno, Failure},
    sys::attach_device_filter,
};

use state::CgroupState;
pub(crate) use watch::Watch;

/// Where the one hierarchy is mounted.
pub(crate) const ROOT: &str = "/sys/fs/cgroup";

/// Gives containers every controller that the kernel has, in one write: each
/// costs a wait for all processors.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn enable_controllers() -> Result<(), Failure> {
    let available = Path::new(ROOT).join("cgroup.controllers");
    let available = fs::read_to_string(&available).at("read", &available)?;
    let wanted: Vec<String> = available
        .split_whitespace()
        .map(|name| format!("+{name}"))
        .collect();
    let control = Path::new(ROOT).join("cgroup.subtree_control");
    fs::write(&control, wanted.join(" ")).at("write", &control)
}

/// The cgroup of one container.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes the cgroup of a container. The prefix keeps names of containers
    /// apart from the kernel's own files.
    ///
    /// # Errors
    /// `file exists` when there is such a container.
    pub(crate) fn create(container_id: &str) -> Result<Self, Failure> {
        let path = Path::new(ROOT).join(format!("container-{container_id}"));
        fs::create_dir(&path).at("create cgroup", &path)?;
        Ok(Self { path })
    }

    /// Its directory.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens its directory, for a process to be cloned into.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn open(&self) -> Result<OwnedFd, Failure> {
        let directory = File::open(&self.path).at("open cgroup", &self.path)?;
        Ok(directory.into())
    }

    /// Opens the directory into which one more process of the container is cloned: the
    /// cgroup `name` below, or the container's own. A container that has enabled
    /// controllers for cgroups of its own can have no process beside those (cgroup v2's
    /// "no internal processes"), so there the process joins the cgroup of `init`.
    ///
    /// # Errors
    /// The kernel's, or [`Failure::Refused`] for a name that leads out of it.
    pub(crate) fn open_below(&self, name: &str, init: Pid) -> Result<OwnedFd, Failure> {
        if !name.trim_matches('/').is_empty() {
            return self.open_named(name);
        }
        if self.read("cgroup.subtree_control")?.trim().is_empty() {
            return self.open();
        }
        let membership = format!("/proc/{init}/cgroup");
        let text = fs::read_to_string(&membership).at("read", &membership)?;
        let below_root = text.trim().trim_start_matches("0::/");
        let path = Path::new(ROOT).join(below_root);
        let directory = File::open(&path).at("open cgroup", &path)?;
        Ok(directory.into())
    }

    fn open_named(&self, name: &str) -> Result<OwnedFd, Failure> {
        let relative = Path::new(name.trim_start_matches('/'));
        let stays_inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if !relative.components().all(stays_inside) {
            return Err(Failure::Refused(format!("{name} is not a sub cgroup path")));
        }
        let path = self.path.join(relative);
        let directory = File::open(&path).at("open cgroup", &path)?;
        Ok(directory.into())
    }

    /// Whether its processes are frozen, or being frozen.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn is_frozen(&self) -> Result<bool, Failure> {
        Ok(self.read("cgroup.freeze")?.trim() == "1")
    }

    /// Applies limits, but for that of tasks; what isn't mentioned stays as it is.
    ///
    /// # Errors
    /// A value that makes no sense, or the first file that refuses one.
    pub(crate) fn limit(&self, resources: &LinuxResources) -> Result<(), Failure> {
        let state = CgroupState::read(&self.path);
        let settings = limits::settings(resources, &state)?;
        settings.iter().try_for_each(|setting| self.apply(setting))
    }

    /// Applies the limit of tasks.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn limit_tasks(&self, resources: &LinuxResources) -> Result<(), Failure> {
        let setting = limits::tasks(resources);
        setting.map_or(Ok(()), |setting| self.apply(&setting))
    }

    fn apply(&self, setting: &Setting) -> Result<(), Failure> {
        let written = write_existing(&self.path.join(&setting.file), &setting.value);
        self.outcome_of(setting, written)
    }

    fn outcome_of(&self, setting: &Setting, written: IoResult<()>) -> Result<(), Failure> {
        let Err(error) = written else {
            return Ok(());
        };
        let missing = error.kind() == ErrorKind::NotFound;
        match setting.origin {
            Origin::MemberWhereNeeded if missing => Ok(()),
            Origin::Unified => Err(self.unified_refused(&setting.file, error)),
            _ => Err(error).at("write", self.path.join(&setting.file)),
        }
    }

    /// In runc's words: a missing controller is named before a value that was refused.
    fn unified_refused(&self, file: &str, error: Error) -> Failure {
        let Some((controller, _)) = file.split_once('.') else {
            return Failure::Refused(format!(
                "unified resource {file:?} must be in the form CONTROLLER.PARAMETER"
            ));
        };
        let available = self.read("cgroup.controllers").unwrap_or_default();
        let mut available = available.split_whitespace();
        if controller != "cgroup" && !available.any(|name| name == controller) {
            return Failure::Refused(format!(
                "unified resource {file:?} can't be set: controller {controller:?} not available"
            ));
        }
        let cause = Errno::from(error);
        Failure::Refused(format!("unable to set unified resource {file:?}: {cause}"))
    }

    /// What it uses.
    #[must_use]
    pub(crate) fn statistics(&self) -> Statistics {
        statistics::read(&self.path)
    }

    /// Limits the devices that may be used.
    ///
    /// # Errors
    /// A rule that makes no sense, or the kernel's refusal.
    pub(crate) fn limit_devices(&self, rules: &[LinuxDeviceCgroup]) -> Result<(), Failure> {
        let program = devices::program(rules)?;
        attach_device_filter(self.open()?.as_fd(), &program).step("apply device rules")
    }

    /// Kills everything in it, however deep.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn kill(&self) -> Result<(), Failure> {
        self.write("cgroup.kill", "1")
    }

    /// Every process in it, however deep.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn processes(&self) -> Result<Vec<Pid>, Failure> {
        let mut found = Vec::new();
        for directory in self.directories()? {
            let path = directory.join("cgroup.procs");
            let text = match fs::read_to_string(&path) {
                // A threaded cgroup lists no processes, nor does one that has gone.
                Err(error) if is_gone(&error) || error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                    continue;
                }
                read => read.at("read", &path)?,
            };
            let pids = text.lines().filter_map(|line| line.parse().ok());
            found.extend(pids.map(Pid::from_raw));
        }
        Ok(found)
    }

    /// Freezes or thaws every process; returns when that is done.
    ///
    /// # Errors
    /// The kernel's. A process in uninterruptible sleep can't be frozen; all are thawed
    /// then.
    pub(crate) async fn set_frozen(&self, frozen: bool) -> Result<(), Failure> {
        let value = if frozen { "1" } else { "0" };
        self.write("cgroup.freeze", value)?;
        let reached = tokio::time::timeout(FREEZE_LIMIT, self.wait_for("frozen", value)).await;
        if let Ok(reached) = reached {
            return reached;
        }
        self.write("cgroup.freeze", "0")?;
        Err(Failure::Refused(format!(
            "timeout of {} s reached waiting for the cgroup to freeze",
            FREEZE_LIMIT.as_secs()
        )))
    }

    /// Kills what is left in it and removes it.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) async fn destroy(&self) -> Result<(), Failure> {
        self.kill()?;
        self.wait_for("populated", "0").await?;
        for directory in self.directories()?.iter().rev() {
            match fs::remove_dir(directory) {
                Err(error) if !is_gone(&error) => return Err(error).at("remove cgroup", directory),
                _ => {}
            }
        }
        Ok(())
    }

    /// How many processes the kernel has killed for lack of memory so far.
    #[must_use]
    pub(crate) fn oom_kills(&self) -> u64 {
        let events = fs::read_to_string(self.path.join(MEMORY_EVENTS)).unwrap_or_default();
        value_of(&events, "oom_kill")
            .and_then(|count| count.parse().ok())
            .unwrap_or(0)
    }

    /// Watches for changes of what [`Cgroup::oom_kills`] counts.
    ///
    /// # Errors
    /// The kernel's; `no such file` when it doesn't control memory.
    pub(crate) fn watch_memory(&self) -> IoResult<Watch> {
        Watch::new(&self.path.join(MEMORY_EVENTS))
    }

    async fn wait_for(&self, key: &str, value: &str) -> Result<(), Failure> {
        let path = self.path.join("cgroup.events");
        let watch = Watch::new(&path).at("watch", &path)?;
        loop {
            let events = fs::read_to_string(&path).at("read", &path)?;
            if value_of(&events, key) == Some(value) {
                return Ok(());
            }
            watch.changed().await.at("watch", &path)?;
        }
    }

    fn read(&self, file: &str) -> Result<String, Failure> {
        let path = self.path.join(file);
        fs::read_to_string(&path).at("read", &path)
    }

    fn write(&self, file: &str, value: &str) -> Result<(), Failure> {
        let path = self.path.join(file);
        write_existing(&path, value).at("write", &path)
    }

    /// Itself and what the container made below it, parents first.
    fn directories(&self) -> Result<Vec<PathBuf>, Failure> {
        let mut directories = vec![self.path.clone()];
        let mut next = 0;
        while let Some(directory) = directories.get(next).cloned() {
            next += 1;
            let entries = match fs::read_dir(&directory) {
                Err(error) if is_gone(&error) => continue,
                read => read.at("read", &directory)?,
            };
            let below = entries.flatten().filter(|entry| entry.path().is_dir());
            directories.extend(below.map(|entry| entry.path()));
        }
        Ok(directories)
    }
}

/// Never creates a file: cgroupfs refuses that with a misleading errno.
fn write_existing(path: &Path, value: &str) -> IoResult<()> {
    File::options()
        .write(true)
        .open(path)?
        .write_all(value.as_bytes())
}

fn is_gone(error: &Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

/// Value of `key` in a file of lines "key value".
fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find_map(|(name, value)| (name == key).then_some(value))
}

const MEMORY_EVENTS: &str = "memory.events";
/// As long as runc waits.
const FREEZE_LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_matched_whole() {
        let text = "oom 3\noom_kill 2\noom_group_kill 0\n";
        assert_eq!(value_of(text, "oom_kill"), Some("2"));
        assert_eq!(value_of(text, "kill"), None);
    }
}
