//! `Namespace`: a network namespace, as engines make them, and what is done in it
//! from outside.
//!
//! It lives as long as its descriptor, or something in it does: there is no name and
//! no mount to leave behind.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace, held by a descriptor.
#[derive(Debug)]
pub struct Namespace(File);

impl Namespace {
    /// An empty one with `lo` up.
    ///
    /// # Panics
    /// When it can't be made.
    #[must_use]
    pub fn make() -> Self {
        let thread = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        let namespace = Self(thread.join().unwrap());
        namespace.ip("link set lo up");
        namespace
    }

    /// The one that a process is in.
    ///
    /// # Panics
    /// When there is no such process.
    #[must_use]
    pub fn of(pid: i32) -> Self {
        Self(File::open(format!("/proc/{pid}/ns/net")).unwrap())
    }

    /// The file that stands for it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let pid = std::process::id();
        Path::new("/proc").join(format!("{pid}/fd/{}", self.0.as_raw_fd()))
    }

    /// Runs `ip` in it, and returns what it wrote.
    #[track_caller]
    pub fn ip(&self, arguments: &str) -> String {
        self.command("ip", arguments)
    }

    /// Runs `tc` in it.
    #[must_use]
    #[track_caller]
    pub fn tc(&self, arguments: &str) -> String {
        self.command("tc", arguments)
    }

    /// Makes a pair of interfaces that are up, one here and one there.
    #[track_caller]
    pub fn connect(&self, own: &str, other: &Self, others: &str) {
        let there = other.path();
        let there = there.display();
        self.ip(&format!(
            "link add {own} type veth peer name {others} netns {there}"
        ));
        self.ip(&format!("link set {own} up"));
        other.ip(&format!("link set {others} up"));
    }

    /// Does `work` in it, in a thread of its own.
    ///
    /// # Panics
    /// When `work` does.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }

    /// # Panics
    /// When anything of a container is still in it.
    #[track_caller]
    pub fn assert_restored(&self) {
        let links = self.ip("-o link");
        assert!(!links.contains("cais"), "a tap is left: {links}");
        let qdiscs = self.tc("qdisc");
        assert!(!qdiscs.contains("ingress"), "a qdisc is left: {qdiscs}");
    }

    #[track_caller]
    fn command(&self, program: &str, arguments: &str) -> String {
        let mut command = Command::new(program);
        command.args(arguments.split_whitespace());
        let output = self.inside(|| command.output());
        let output = output.unwrap_or_else(|err| panic!("{program} (Debian: iproute2): {err}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "{program} {arguments}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    }
}
