//! What can be asked of a container's owner, and what it answers.
//!
//! Owns the types alone. Both ends are one program of one version, started
//! from one file, so the form needs no version of its own.

use std::num::NonZeroU32;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::container::statistics::Statistics;
use crate::oci::plan::{Access, IdMaps};
use crate::seccomp::Filter;

/// Asked by a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// What the container is doing. Answer: [`Reply::Status`].
    Status,
    /// Runs the created container's program. Answer: [`Reply::Done`].
    Start,
    /// Sends a signal. Answer: [`Reply::Done`].
    Kill {
        /// Signal number.
        signal: i32,
        /// To every process of the container.
        all: bool,
    },
    /// Freezes every process. Answer: [`Reply::Done`].
    Pause,
    /// Lets frozen processes go on. Answer: [`Reply::Done`].
    Resume,
    /// Changes limits. Answer: [`Reply::Done`].
    Update {
        /// OCI `linux.resources` object; what it lacks stays as it is.
        resources: serde_json::Value,
    },
    /// Lists the container's processes. Answer: [`Reply::Processes`].
    Processes,
    /// Lists the host's processes that stand for processes of the container.
    /// Answer: [`Reply::Owners`].
    Owners,
    /// What the container uses. Answer: [`Reply::Statistics`].
    Statistics,
    /// What the guest's kernel has written. Answer: [`Reply::Console`].
    Console,
    /// Tells from now on what happens to the container. Answer: [`Reply::Done`], then
    /// any number of [`Reply::OutOfMemory`]; the container's end closes the connection.
    Follow,
    /// Runs one more process. Answer: [`Reply::Started`] with the descriptors of
    /// its streams, later [`Reply::Exited`] on the same connection. Closing the
    /// connection before kills the process.
    Exec(ExecRequest),
    /// Makes one more container in this one's machine. Beside it travel the socket on
    /// which the new one's commands are answered, then its shares. Answer, and what
    /// follows: as for [`Request::Exec`]; the process is the container's init.
    Join(Box<JoinRequest>),
    /// Signals the process that this connection started. Answer: none.
    Signal {
        /// Signal number.
        signal: i32,
    },
    /// The process that this connection started has ended, and the connection stands for
    /// the copying of what others, which it has left behind, still write. Answer:
    /// [`Reply::Done`]; the container's end closes the connection.
    Linger,
    /// Resizes the terminal of the process that this connection started. Answer: none.
    Resize {
        /// Lines.
        rows: u16,
        /// Characters in a line.
        columns: u16,
    },
}

/// The terminal of a process in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestTerminal {
    /// None: three streams.
    None,
    /// One that does all a terminal does.
    Full,
    /// One that leaves newlines as they are.
    PlainNewlines,
}

impl GuestTerminal {
    /// Whether there is one.
    #[must_use]
    pub fn exists(self) -> bool {
        self != Self::None
    }
}

/// One more process in a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// OCI `process` object.
    pub process: serde_json::Value,
    /// The terminal it gets.
    pub terminal: GuestTerminal,
    /// The caller has something to read from; else /dev/null.
    pub stdin: bool,
    /// A cgroup below the container's, relative to it; empty for the container's own.
    pub cgroup: String,
    /// In a paused container, wait for its resumption instead of being refused.
    pub ignore_paused: bool,
    /// How many further descriptors it gets, from 3 up.
    pub further: usize,
}

/// A container as the guest's agent gets to know it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuestContainer {
    /// Its name.
    pub id: String,
    /// config.json, as far as it is for the guest.
    pub spec: serde_json::Value,
    /// What decides about system calls of its processes.
    pub seccomp: Option<Filter>,
    /// Its state as its hooks are told; the guest adds the pid that they see.
    pub state: serde_json::Value,
    /// Mounts of the host within its shares, by their paths in the guest.
    pub submounts: Vec<String>,
    /// The most that it writes to its root, in guest memory; none: to its share.
    pub root_overlay_mib: Option<NonZeroU32>,
    /// The agent listens for what its program says to a service manager.
    pub notifies: bool,
}

/// One more container in a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// What the agent is told of it.
    pub container: GuestContainer,
    /// Its shares, whose trees are sent along in this order.
    pub shares: Vec<OfferedShare>,
    /// The terminal of its init.
    pub terminal: GuestTerminal,
    /// The caller has something to read from; else /dev/null.
    pub stdin: bool,
}

/// One directory or file of the host that a container is to see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedShare {
    /// Its path below the share's root, unless a share that is served has it already.
    pub path: PathBuf,
    /// A directory; else a file.
    pub is_dir: bool,
    /// Where it is on the host.
    pub place: HostPlace,
}

/// What makes a share the same as another, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPlace {
    /// Its path on the host, without links.
    pub source: PathBuf,
    /// Its path in its file system, which other mounts show elsewhere.
    pub in_file_system: Option<PlaceInFileSystem>,
    /// Whether it may be written to.
    pub access: Access,
    /// Under which ids its files are seen.
    pub id_maps: Option<IdMaps>,
    /// The host's own mount gives its files other ids.
    pub has_mapped_source: bool,
    /// The mounts below it that are seen too, sorted.
    pub below: Vec<MountBelow>,
}

/// A path, seen from the root of a file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceInFileSystem {
    /// The file system, by the numbers of its device.
    pub device: String,
    /// The path.
    pub path: PathBuf,
}

/// A mount of the host below a share's source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MountBelow {
    /// Relative to the source.
    pub path: PathBuf,
    /// Its file system.
    pub device: String,
    /// What of that it shows.
    pub root: PathBuf,
    /// Its flags, id mappings included, as mountinfo lists them.
    pub options: String,
}

/// Answered by the owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It was done.
    Done,
    /// The container has stopped, or is stopping.
    NotRunning,
    /// It could not be done.
    Failed {
        /// One line: the cause.
        message: String,
    },
    /// The container's status.
    Status(Status),
    /// The container's processes.
    Processes(Vec<ProcessEntry>),
    /// The owner's pid, then those of its execs.
    Owners(Vec<i32>),
    /// What the container uses.
    Statistics(Box<Statistics>),
    /// The last lines of the guest's console.
    Console(Vec<String>),
    /// The guest's kernel has killed a process of the container for lack of memory.
    OutOfMemory,
    /// The process runs. The message carries the descriptors of its streams, in
    /// the order stdin (if asked), stdout, stderr (if no terminal), further ones.
    Started,
    /// The process has ended and its output was handed over up to these counts.
    Exited {
        /// Exit code, or 128 plus the signal.
        status: u8,
        /// Bytes of standard output.
        stdout_bytes: u64,
        /// Bytes of standard error.
        stderr_bytes: u64,
        /// Processes that it has left behind have standard output open.
        stdout_held: bool,
        /// The same of standard error.
        stderr_held: bool,
    },
}

/// Status of a container (runtime-spec, runtime.md#state).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its machine is being started.
    Creating,
    /// Set up; its program does not run yet.
    Created,
    /// Its program runs.
    Running,
    /// Frozen.
    Paused,
    /// Ended.
    Stopped,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// A process as `ps` shows it. Ids are those of the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessEntry {
    /// Process id in the guest.
    pub pid: u32,
    /// Parent's id in the guest.
    pub parent_pid: u32,
    /// User id.
    pub uid: u32,
    /// CPU time in milliseconds.
    pub cpu_ms: u64,
    /// Start, nanoseconds since the epoch.
    pub started_unix_ns: u64,
    /// Controlling terminal.
    pub tty: String,
    /// Command line.
    pub command: String,
    /// Name of the program.
    pub name: String,
    /// State as one letter.
    pub state: String,
    /// Size of the address space in KiB.
    pub virtual_kib: u64,
    /// Memory in use in KiB.
    pub resident_kib: u64,
}
