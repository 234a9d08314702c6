//! One container's cgroup: its limits, its processes, its end.
//!
//! Version 2 only. Owns the folder below [`ROOT`]. `limits` and `devices` translate
//! the configuration, `watch` waits for what the kernel tells through files.

mod devices;
mod limits;
mod watch;

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::unistd::Pid;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};

use crate::{
    failure::{Attempt, Failure},
    sys::attach_device_filter,
};

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

/// See the module.
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

    /// Its folder.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens its folder, for a process to be born into.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn open(&self) -> Result<OwnedFd, Failure> {
        let folder = File::open(&self.path).at("open cgroup", &self.path)?;
        Ok(folder.into())
    }

    /// Opens the folder in which one more process of the container can be born. A
    /// container that divides its resources among groups of its own can have no
    /// process beside them, so there the process joins `init`.
    ///
    /// # Errors
    /// The kernel's, or [`Failure::Refused`] while the container is paused.
    pub(crate) fn open_beside(&self, init: Pid) -> Result<OwnedFd, Failure> {
        if self.read("cgroup.freeze")?.trim() == "1" {
            return Err(Failure::Refused(
                "cannot exec in a paused container".to_owned(),
            ));
        }
        if self.read("cgroup.subtree_control")?.trim().is_empty() {
            return self.open();
        }
        let membership = format!("/proc/{init}/cgroup");
        let text = fs::read_to_string(&membership).at("read", &membership)?;
        let below_root = text.trim().trim_start_matches("0::/");
        let path = Path::new(ROOT).join(below_root);
        let folder = File::open(&path).at("open cgroup", &path)?;
        Ok(folder.into())
    }

    /// Applies limits.
    ///
    /// # Errors
    /// A value that makes no sense, or the first file that refuses one.
    pub(crate) fn limit(&self, resources: &LinuxResources) -> Result<(), Failure> {
        for setting in limits::settings(resources)? {
            let path = self.path.join(&setting.file);
            match fs::write(&path, &setting.value) {
                // Without swap in the kernel, a limit of it always holds.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound
                        && setting.file == limits::SWAP_FILE => {}
                written => written.at("write", &path)?,
            }
        }
        Ok(())
    }

    /// Limits the devices that may be used.
    ///
    /// # Errors
    /// A rule that makes no sense, or the kernel's refusal.
    pub(crate) fn limit_devices(&self, rules: &[LinuxDeviceCgroup]) -> Result<(), Failure> {
        let program = devices::program(rules)?;
        attach_device_filter(self.open()?.as_fd(), &program).doing("apply device rules")
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
        for folder in self.folders()? {
            let path = folder.join("cgroup.procs");
            let text = match fs::read_to_string(&path) {
                // A folder for threads has no processes; one that has gone, neither.
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

    /// Stops every process, or lets all go on; returns when that is so.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) async fn set_frozen(&self, frozen: bool) -> Result<(), Failure> {
        let value = if frozen { "1" } else { "0" };
        self.write("cgroup.freeze", value)?;
        self.wait_for("frozen", value).await
    }

    /// Kills what is left in it and removes it.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) async fn destroy(&self) -> Result<(), Failure> {
        self.kill()?;
        self.wait_for("populated", "0").await?;
        for folder in self.folders()?.iter().rev() {
            match fs::remove_dir(folder) {
                Err(error) if !is_gone(&error) => return Err(error).at("remove cgroup", folder),
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
    pub(crate) fn watch_memory(&self) -> io::Result<Watch> {
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
        fs::write(&path, value).at("write", &path)
    }

    /// Itself and what the container made below it, parents first.
    fn folders(&self) -> Result<Vec<PathBuf>, Failure> {
        let mut folders = vec![self.path.clone()];
        let mut next = 0;
        while let Some(folder) = folders.get(next).cloned() {
            next += 1;
            let entries = match fs::read_dir(&folder) {
                Err(error) if is_gone(&error) => continue,
                read => read.at("read", &folder)?,
            };
            let below = entries.flatten().filter(|entry| entry.path().is_dir());
            folders.extend(below.map(|entry| entry.path()));
        }
        Ok(folders)
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

/// Value of `key` in a file of lines "key value".
fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find_map(|(name, value)| (name == key).then_some(value))
}

const MEMORY_EVENTS: &str = "memory.events";

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
