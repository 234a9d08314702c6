//! What checks see of the host: files below a root, and the answers of a few system calls.
//!
//! Owns how both are read. Tests give a root of their own, and calls that fail.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::process::{Resource, getrlimit};

use crate::config::installation::{self, Installation};
use crate::host::identity;
use crate::log::error_line::plain;
use crate::vm;

/// More than any file here has; what is longer is cut.
const MAX_TEXT: u64 = 4 << 20;

/// Where daemons find programs, containerd and Docker their shims among them: systemd's
/// PATH.
pub(super) const DAEMON_PATH: [&str; 4] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];

/// Who runs the checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    /// Its name, or its number where it has none.
    pub(super) name: String,
    /// Whether it has no rights over the whole host.
    pub(super) is_rootless: bool,
}

/// Limits of this process, which those it starts inherit; `None` is unlimited.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProcessLimits {
    pub(super) address_space: Option<u64>,
    pub(super) locked_memory: Option<u64>,
    /// The hard limit.
    pub(super) open_files: Option<u64>,
}

/// Room in a file system.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) bytes: u64,
    /// None where the file system does not count them.
    pub(super) inodes: Option<u64>,
}

/// System calls whose answers no file holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calls {
    /// Opens a device to read and write.
    pub(super) open: fn(&Path) -> io::Result<File>,
    /// Whether this user may write there.
    pub(super) may_write: fn(&Path) -> io::Result<()>,
    pub(super) room: fn(&Path) -> io::Result<Room>,
    /// Runs the tiny guest on an open /dev/kvm.
    pub(super) run_guest: fn(File) -> Result<(), String>,
}

/// One host, as checks see it.
#[derive(Debug)]
pub struct HostView {
    pub(super) root: PathBuf,
    pub(super) account: Account,
    pub(super) limits: ProcessLimits,
    pub(super) calls: Calls,
    pub(super) now: SystemTime,
    /// Directories of PATH.
    pub(super) search_path: Vec<PathBuf>,
    pub(super) state_directory: PathBuf,
    /// This program.
    pub(super) program: PathBuf,
    pub(super) installation: Installation,
    /// Why the configuration is not the administrator's.
    pub(super) configuration_fault: Option<installation::Error>,
}

impl HostView {
    /// This host, with this state directory.
    ///
    /// # Errors
    /// When the program's own path is unknown.
    pub fn here(state_directory: &Path) -> Result<Self, installation::Error> {
        let (installation, configuration_fault) = match Installation::find(None) {
            Ok(installation) => (installation, None),
            Err(fault) => (Installation::unconfigured()?, Some(fault)),
        };
        let uid = nix::unistd::geteuid().as_raw();
        let limit = |resource| getrlimit(resource).current;
        Ok(Self {
            root: "/".into(),
            account: Account {
                uid,
                name: identity::user_name(uid),
                is_rootless: identity::is_rootless(),
            },
            limits: ProcessLimits {
                address_space: limit(Resource::As),
                locked_memory: limit(Resource::Memlock),
                open_files: getrlimit(Resource::Nofile).maximum,
            },
            calls: Calls {
                open: |path| File::options().read(true).write(true).open(path),
                may_write: |path| Ok(rustix::fs::access(path, rustix::fs::Access::WRITE_OK)?),
                room: room_at,
                run_guest: vm::run_tiny_guest,
            },
            now: SystemTime::now(),
            search_path: std::env::var_os("PATH")
                .map(|path| std::env::split_paths(&path).collect())
                .unwrap_or_default(),
            state_directory: state_directory.to_owned(),
            program: std::env::current_exe().map_err(installation::Error::Exe)?,
            installation,
            configuration_fault,
        })
    }

    /// Where a file of the host lies, which is named by its absolute path.
    pub(super) fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let absolute = absolute.as_ref();
        self.root
            .join(absolute.strip_prefix("/").unwrap_or(absolute))
    }

    pub(super) fn exists(&self, absolute: impl AsRef<Path>) -> bool {
        self.path(absolute).exists()
    }

    /// What a file holds, without white space at its ends; nothing if it can't be read.
    pub(super) fn text(&self, absolute: impl AsRef<Path>) -> Option<String> {
        let mut bytes = Vec::new();
        let file = File::open(self.path(absolute)).ok()?;
        file.take(MAX_TEXT).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// The value of `key` in a file of lines `key: value`, such as /proc/meminfo.
    pub(super) fn value_of(&self, file: &str, key: &str) -> Option<String> {
        let text = self.text(file)?;
        let mut values = text.lines().filter_map(|line| line.split_once(':'));
        let found = values.find(|(name, _)| name.trim() == key)?;
        Some(found.1.trim().to_owned())
    }

    /// Opens a device of the host to read and write.
    pub(super) fn open(&self, device: &str) -> io::Result<File> {
        (self.calls.open)(&self.path(device))
    }

    /// The first program of this name on PATH, or where daemons find theirs.
    pub(super) fn find_program(&self, name: &str) -> Option<PathBuf> {
        let named = self.search_path.iter().map(PathBuf::as_path);
        named
            .chain(DAEMON_PATH.iter().map(Path::new))
            .map(|directory| directory.join(name))
            .find(|path| self.path(path).is_file())
    }

    /// Whether this host is itself a container, as engines mark theirs.
    pub(super) fn is_container(&self) -> bool {
        self.exists("/.dockerenv") || self.exists("/run/.containerenv")
    }
}

fn room_at(path: &Path) -> io::Result<Room> {
    let found = rustix::fs::statvfs(path)?;
    Ok(Room {
        bytes: found.f_bavail.saturating_mul(found.f_frsize),
        inodes: (found.f_files > 0).then_some(found.f_favail),
    })
}

/// The path itself, or what exists of it.
pub(super) fn existing_part(path: &Path) -> &Path {
    path.ancestors()
        .find(|part| fs::symlink_metadata(part).is_ok())
        .unwrap_or_else(|| Path::new("/"))
}

/// An error of the system without its number.
pub(super) fn words_of(error: &io::Error) -> String {
    plain(&error.to_string())
}
