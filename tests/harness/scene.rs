//! `Scene`: the directory one test plays in, with a state directory, a configuration
//! and a root file system of its own, and the program under test.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use crate::leftovers::Leftovers;
use crate::output::without_emulation_warning;
use crate::{Bundle, Output, Settings};

/// Where one test plays.
#[derive(Debug)]
pub struct Scene {
    /// What is under test.
    pub settings: Settings,
    folder: TempDir,
    count: Cell<u32>,
    begun: Instant,
    before: Leftovers,
}

impl Drop for Scene {
    /// What containers and their owners have said goes with the directory, and is needed
    /// to understand a failure.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for entry in fs::read_dir(self.folder.path())
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = entry.path();
            let text = fs::read_to_string(&path).unwrap_or_default();
            if path.extension().is_some_and(|kind| kind == "err") && !text.is_empty() {
                self.note(&format!("{}: {text}", path.display()));
            }
        }
    }
}

impl Scene {
    /// An empty scene for the test of this name.
    #[must_use]
    pub fn new(name: &str, settings: Settings) -> Self {
        let name: String = name.replace("::", "-").chars().take(40).collect();
        let folder = tempfile::Builder::new()
            .prefix(&format!("caisson-{name}-"))
            .tempdir()
            .unwrap();
        // A container's user must be able to walk down to its files.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut scene = Self {
            settings,
            folder,
            count: Cell::new(0),
            begun: Instant::now(),
            before: Leftovers::default(),
        };
        scene.configure("");
        scene.before = Leftovers::listed(&scene.tag());
        scene
    }

    /// A word in the name of each of this test's containers and of no other's.
    #[must_use]
    pub fn tag(&self) -> String {
        let name = self.folder.path().to_string_lossy().into_owned();
        let random = name.rsplit('-').next().unwrap_or_default();
        format!("caisson-test-{random}")
    }

    /// A path in the test's own directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The state directory, as `--root` gets it.
    #[must_use]
    pub fn state_folder(&self) -> PathBuf {
        self.path("state")
    }

    /// A number no other call gets.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.count.set(self.count.get() + 1);
        self.count.get()
    }

    /// Writes a line that is shown if the test fails, with the time in ms.
    pub fn note(&self, line: &str) {
        writeln!(
            std::io::stderr(),
            "{:6} {line}",
            self.begun.elapsed().as_millis()
        )
        .ok();
    }

    /// Writes the configuration, with further lines, which may choose the machine.
    pub fn configure(&self, lines: &str) {
        let Settings {
            machine,
            kernel,
            qemu,
            ..
        } = &self.settings;
        let mut text = format!("kernel = \"{kernel}\"\n");
        if !lines.contains("machine =") {
            text.push_str(&format!("machine = \"{}\"\n", machine.name()));
        }
        if let Some(qemu) = qemu.as_ref().filter(|_| !lines.contains("qemu =")) {
            text.push_str(&format!("qemu = \"{}\"\n", qemu.display()));
        }
        fs::write(self.path("config.toml"), text + lines).unwrap();
    }

    /// The program under test with the test's state directory and configuration.
    #[must_use]
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(self.settings.caisson());
        command.env("CAISSON_CONFIG", self.path("config.toml"));
        command.arg("--root").arg(self.state_folder());
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs it to its end without input. Its streams are files: whatever it
    /// leaves behind may hold them for longer.
    #[must_use]
    pub fn caisson<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        self.output_of(self.command(arguments))
    }

    /// Runs any command to its end with files for its output. The warning of an
    /// emulated start is no part of what a test is about.
    #[must_use]
    pub fn output_of(&self, mut command: Command) -> Output {
        let number = self.number();
        let [stdout, stderr] = ["out", "err"].map(|kind| self.path(&format!("{number}.{kind}")));
        command.stdout(File::create(&stdout).unwrap());
        command.stderr(File::create(&stderr).unwrap());
        let status = command.status().unwrap();
        self.note(&format!(
            "{:?} ended: {status}",
            command.get_args().skip(2).collect::<Vec<_>>()
        ));
        let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        Output {
            code: Output::code_of(status),
            stdout: text(&stdout),
            stderr: without_emulation_warning(&text(&stderr)),
            command: format!("{command:?}"),
        }
    }

    /// A bundle without terminal that runs `arguments` in the scene's own root
    /// file system.
    #[must_use]
    pub fn bundle(&self, arguments: &[&str]) -> Bundle {
        let number = self.number();
        let path = self.path(&format!("bundle-{number}"));
        fs::create_dir(&path).unwrap();
        self.caisson(["spec", "--bundle", path.to_str().unwrap()])
            .ok();
        let bundle = Bundle {
            id: format!("{}-{number}", self.tag()),
            path,
            rootfs: self.rootfs(),
        };
        bundle.edit(|config| {
            config["process"]["args"] = arguments.into();
            config["process"]["terminal"] = false.into();
            config["root"] = serde_json::json!({"path": bundle.rootfs});
        });
        bundle
    }

    /// The same for a shell script.
    #[must_use]
    pub fn shell(&self, script: &str) -> Bundle {
        self.bundle(&["sh", "-c", script])
    }

    /// `run` in the foreground.
    #[must_use]
    pub fn run(&self, bundle: &Bundle) -> Output {
        self.caisson(["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id])
    }

    /// The scene's root file system: busybox, and this program as `probe`.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        let rootfs = self.path("rootfs");
        if rootfs.exists() {
            return rootfs;
        }
        for folder in ["bin", "dev", "etc", "proc", "sys", "tmp", "root"] {
            fs::create_dir_all(rootfs.join(folder)).unwrap();
        }
        let bin = rootfs.join("bin");
        fs::copy(&self.settings.busybox, bin.join("busybox")).unwrap();
        fs::copy(std::env::current_exe().unwrap(), bin.join("probe")).unwrap();
        let list = Command::new(&self.settings.busybox)
            .arg("--list")
            .output()
            .unwrap();
        for applet in String::from_utf8(list.stdout)
            .unwrap()
            .lines()
            .filter(|name| *name != "busybox")
        {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        rootfs
    }

    /// # Panics
    /// When anything on the host is still there that was not at the beginning.
    #[track_caller]
    pub fn assert_nothing_is_left(&self) {
        self.before.assert_nothing_new(&self.tag());
        let entries = fs::read_dir(self.state_folder())
            .into_iter()
            .flatten()
            .flatten();
        let left: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        assert!(left.is_empty(), "the state directory still holds {left:?}");
    }
}
