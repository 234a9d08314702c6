//! What exists on the host that a runtime might leave behind.
//!
//! Listed inside a test's own namespaces, so everything new is the test's.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use crate::wait;

/// Helpers that lose their owner end at once; more than this is a leak.
const END_LIMIT: Duration = Duration::from_secs(2);

/// One listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Number and command line of every process but this one.
    pub processes: BTreeSet<String>,
    /// Lines of mountinfo.
    pub mounts: BTreeSet<String>,
    /// Network interfaces, taps among them.
    pub links: BTreeSet<String>,
    /// AF_UNIX sockets that have a name.
    pub sockets: BTreeSet<String>,
    /// Control groups that are ours by name.
    pub cgroups: BTreeSet<String>,
    /// Memory files that any process holds.
    pub memfds: BTreeSet<String>,
    /// Shared memory and temporary files that are ours by name.
    pub files: BTreeSet<String>,
}

impl Leftovers {
    /// What there is now; cgroups are the whole machine's, so only those with
    /// `tag` in their name count.
    #[must_use]
    pub fn listed(tag: &str) -> Self {
        Self {
            processes: processes(),
            mounts: lines("/proc/self/mountinfo", |line| Some(line.to_owned())),
            links: lines("/proc/net/dev", |line| {
                Some(line.split_once(':')?.0.trim().to_owned())
            }),
            sockets: lines("/proc/net/unix", |line| {
                Some(line.split_whitespace().nth(7)?.to_owned())
            }),
            cgroups: cgroups(tag),
            memfds: memfds(),
            files: files(tag),
        }
    }

    /// Waits a moment for processes that are ending, and reaps orphans.
    fn wait_for_processes() {
        let deadline = Instant::now() + END_LIMIT;
        reap();
        for pid in other_pids() {
            let left = deadline.saturating_duration_since(Instant::now());
            if let Ok(pidfd) = wait::pidfd(pid) {
                let _ended = wait::readable_within(pidfd.as_fd(), left);
            }
        }
        reap();
    }

    /// # Panics
    /// When anything exists in a moment that this listing lacks.
    pub fn assert_nothing_new(&self, tag: &str) {
        Self::wait_for_processes();
        let now = Self::listed(tag);
        let kinds = [
            ("process", &self.processes, &now.processes),
            ("mount", &self.mounts, &now.mounts),
            ("network interface", &self.links, &now.links),
            ("socket", &self.sockets, &now.sockets),
            ("cgroup", &self.cgroups, &now.cgroups),
            ("memory file", &self.memfds, &now.memfds),
            ("file", &self.files, &now.files),
        ];
        let new: Vec<String> = kinds
            .iter()
            .flat_map(|(kind, before, now)| {
                now.difference(before)
                    .map(move |item| format!("{kind} {item}"))
            })
            .collect();
        assert!(new.is_empty(), "left behind: {new:#?}");
    }
}

/// Takes the status of every child that has ended.
fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}

/// Every process of this pid namespace but this one.
#[must_use]
pub fn other_pids() -> Vec<i32> {
    let own = nix::unistd::getpid().as_raw();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != own).collect()
}

/// Number, name, state and command line of every process but this one.
#[must_use]
pub fn processes() -> BTreeSet<String> {
    other_pids().into_iter().map(process).collect()
}

fn process(pid: i32) -> String {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let command: String = read("cmdline")
        .replace('\0', " ")
        .chars()
        .take(160)
        .collect();
    let status = read("status");
    let state = status
        .lines()
        .find(|line| line.starts_with("State:"))
        .unwrap_or_default();
    format!("{pid} {} {state} {command}", read("comm").trim())
}

fn lines(path: &str, item: fn(&str) -> Option<String>) -> BTreeSet<String> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().filter_map(item).collect()
}

fn cgroups(tag: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![Path::new("/sys/fs/cgroup").to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let path = entry.path();
            if path.to_string_lossy().contains(tag) {
                found.insert(path.display().to_string());
            }
            folders.push(path);
        }
    }
    found
}

fn memfds() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for pid in other_pids()
        .into_iter()
        .chain([nix::unistd::getpid().as_raw()])
    {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten();
        let targets = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
        found.extend(
            targets
                .map(|target| format!("{pid} {}", target.display()))
                .filter(|target| target.contains("/memfd:")),
        );
    }
    found
}

fn files(tag: &str) -> BTreeSet<String> {
    let folders = ["/dev/shm", "/run", "/run/caisson", "/tmp"];
    let entries = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let paths = entries.map(|entry| entry.path().display().to_string());
    paths.filter(|path| path.contains(tag)).collect()
}
