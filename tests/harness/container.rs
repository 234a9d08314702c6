//! `Container`: a created container, handled as conmon would.
//!
//! The test process is PID 1 of its namespace, so the owner that `create`
//! leaves behind becomes its child, as it becomes that of a subreaper.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::output::without_emulation_warning;
use crate::{Bundle, Output, Scene, wait};

/// A state change that must be seen from outside takes no longer.
pub const STOP_LIMIT: Duration = Duration::from_secs(2);

/// A container that was created.
#[derive(Debug)]
pub struct Container<'a> {
    scene: &'a Scene,
    /// Its name.
    pub id: String,
    /// The process that stands for it.
    pub pid: i32,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Scene {
    /// `create` with files for the container's output and no input.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn create(&self, bundle: &Bundle) -> Container<'_> {
        self.create_with_input(bundle, Stdio::null())
    }

    /// `create` with an input.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn create_with_input(&self, bundle: &Bundle, stdin: Stdio) -> Container<'_> {
        let number = self.number();
        let [stdout, stderr] =
            ["out", "err"].map(|kind| self.path(&format!("container-{number}.{kind}")));
        let output = Stdio::from(File::create(&stdout).unwrap());
        let error = Stdio::from(File::create(&stderr).unwrap());
        let status = self.run_create(bundle, [stdin, output, error]);
        let said = || fs::read_to_string(&stderr).unwrap_or_default();
        assert!(status.success(), "create ended: {status}: {}", said());
        Container {
            stdout,
            stderr,
            ..self.created(bundle)
        }
    }

    /// `create` with the caller's own streams.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn create_with_streams(&self, bundle: &Bundle, streams: [Stdio; 3]) -> Container<'_> {
        let status = self.run_create(bundle, streams);
        assert!(status.success(), "create: {status}");
        self.created(bundle)
    }

    fn run_create(&self, bundle: &Bundle, streams: [Stdio; 3]) -> ExitStatus {
        let mut command = self.command(["create", "--bundle"]);
        command.arg(&bundle.path);
        command.arg("--pid-file").arg(pid_file(bundle));
        command.arg(&bundle.id);
        let [stdin, stdout, stderr] = streams;
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        command.status().unwrap()
    }

    fn created(&self, bundle: &Bundle) -> Container<'_> {
        let pid = fs::read_to_string(pid_file(bundle)).unwrap();
        Container::known(self, &bundle.id, pid.parse().unwrap())
    }

    /// `create` that may fail.
    #[must_use]
    pub fn try_create(&self, bundle: &Bundle) -> Output {
        let folder = bundle.path.to_str().unwrap();
        self.caisson(["create", "--bundle", folder, &bundle.id])
    }

    /// `create` and `start`.
    ///
    /// # Panics
    /// When either fails.
    #[track_caller]
    pub fn started(&self, bundle: &Bundle) -> Container<'_> {
        let container = self.create(bundle);
        container.start();
        container
    }
}

fn pid_file(bundle: &Bundle) -> PathBuf {
    bundle.path.join("pid")
}

impl<'a> Container<'a> {
    /// One that was created in another way, without files for its output.
    #[must_use]
    pub fn known(scene: &'a Scene, id: &str, pid: i32) -> Self {
        Self {
            scene,
            id: id.to_owned(),
            pid,
            stdout: PathBuf::new(),
            stderr: PathBuf::new(),
        }
    }
}

impl Container<'_> {
    /// # Panics
    /// When `start` fails.
    #[track_caller]
    pub fn start(&self) {
        self.verb("start", &[]).ok();
    }

    /// Runs `verb` with the container's name and what follows it.
    #[must_use]
    pub fn verb(&self, verb: &str, rest: &[&str]) -> Output {
        self.scene.caisson([&[verb, &self.id], rest].concat())
    }

    /// `exec` in the foreground, without input.
    #[must_use]
    pub fn exec(&self, arguments: &[&str]) -> Output {
        self.verb("exec", arguments)
    }

    /// The state, as callers read it.
    ///
    /// # Panics
    /// When `state` fails.
    #[must_use]
    #[track_caller]
    pub fn state(&self) -> Value {
        serde_json::from_str(&self.verb("state", &[]).ok()).unwrap()
    }

    /// # Panics
    /// When its status is another.
    #[track_caller]
    pub fn assert_status(&self, status: &str) {
        assert_eq!(self.state()["status"], status);
    }

    /// kill(2) on the process that stands for it.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid), signal).unwrap();
    }

    /// Waits for its end, and returns the exit code.
    #[must_use]
    pub fn wait(&self) -> i32 {
        let code = wait::exit_code_of(self.pid);
        self.scene.note(&format!("{} ended: {code}", self.id));
        code
    }

    /// Waits for an end that must come at once.
    ///
    /// # Panics
    /// When it doesn't.
    #[must_use]
    #[track_caller]
    pub fn wait_briefly(&self) -> i32 {
        assert!(
            wait::ends_within(self.pid, STOP_LIMIT),
            "{} did not stop within 2 s",
            self.id
        );
        self.wait()
    }

    /// What it has written to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap()
    }

    /// What it, or its owner, has written to standard error so far, without the warning
    /// of an emulated start.
    #[must_use]
    pub fn stderr(&self) -> String {
        without_emulation_warning(&fs::read_to_string(&self.stderr).unwrap())
    }

    /// # Panics
    /// When `delete` fails.
    #[track_caller]
    pub fn delete(&self) {
        self.verb("delete", &[]).ok();
    }

    /// Kills it, waits, and deletes it.
    ///
    /// # Panics
    /// When any of it fails.
    #[track_caller]
    pub fn remove(&self) {
        self.verb("kill", &["KILL"]).ok();
        assert_eq!(self.wait(), 137);
        self.delete();
    }
}
