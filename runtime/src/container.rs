//! A container's life as other programs see it: create, start, kill, delete, state.
//!
//! Owns the legal moves and what is left on disk between them. The work is done
//! by the container's owner, a process of its own; this is the only way to it
//! for the command line and any other door.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Serialize;

use crate::bundle::{self, Bundle};
use crate::installation::Installation;
use crate::owner::{self, Connection, ProcessEntry, Reply, Request, Status};
use crate::plan::{self, HostFacts};
use crate::sandbox::{Order, Outcome};
use crate::store::{self, Entry, Record, Store};

/// Descriptor on which an owner reads its order.
pub const ORDER_DESCRIPTOR: i32 = 3;
/// A killed container is gone by then, or is ended from outside.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Why a move failed. The texts follow runc's where callers match them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state folder.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    /// The configuration asks for what can't be done.
    #[error(transparent)]
    Plan(#[from] plan::Error),
    /// The installation.
    #[error(transparent)]
    Installation(#[from] crate::installation::Error),
    /// The owner could not be started.
    #[error("start the container's owner")]
    Spawn(#[source] std::io::Error),
    /// The owner failed or refused; the text is its own.
    #[error("{0}")]
    Refused(String),
    /// The conversation with the owner broke.
    #[error(transparent)]
    Owner(#[from] owner::Error),
    /// There is no owner any more.
    #[error("container not running")]
    NotRunning,
    /// A start of what is already over.
    #[error("cannot start a container that has stopped")]
    StartStopped,
    /// A delete of what still runs.
    #[error("cannot delete container {id} that is not stopped: {status}")]
    NotStopped {
        /// Its name.
        id: String,
        /// What it does.
        status: Status,
    },
    /// A terminal with no one to hold it, or the other way round.
    #[error("{0}")]
    Terminal(&'static str),
    /// The owner would not end.
    #[error("container {0} did not end within {limit} s", limit = END_LIMIT.as_secs())]
    StillThere(String),
}

/// What a caller wants to be created.
#[derive(Debug, Clone)]
pub struct Creation {
    /// Name.
    pub id: String,
    /// Folder of the bundle.
    pub bundle: PathBuf,
    /// Where the terminal's master goes.
    pub console_socket: Option<PathBuf>,
    /// The caller stays, and its terminal is the container's.
    pub foreground: bool,
    /// Where the owner writes log lines.
    pub log: Option<PathBuf>,
    /// Log lines are JSON.
    pub log_json: bool,
    /// Tell decisions.
    pub debug: bool,
}

/// State of a container (runtime-spec, runtime.md#state, plus what runc adds).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Specification version.
    pub oci_version: String,
    /// Name.
    pub id: String,
    /// Host process that stands for the container; 0 once it has stopped.
    pub pid: i32,
    /// What it does.
    pub status: Status,
    /// Folder of the bundle.
    pub bundle: PathBuf,
    /// Root file system.
    pub rootfs: PathBuf,
    /// Creation time, RFC 3339.
    pub created: String,
    /// Annotations of config.json.
    #[serde(skip_serializing_if = "std::collections::HashMap::is_empty")]
    pub annotations: std::collections::HashMap<String, String>,
    /// User who created it, by number.
    pub owner: String,
}

/// A container that exists.
#[derive(Debug, Clone)]
pub struct Container {
    entry: Entry,
    record: Record,
}

/// The owner of a container just created: a child of this process.
#[derive(Debug)]
pub struct OwnerChild {
    child: Child,
}

impl OwnerChild {
    /// Its pid, which is the container's for callers.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or_default()
    }

    /// Waits for its end, which is the container's.
    ///
    /// # Errors
    /// When it is not a child any more.
    pub fn wait(mut self) -> std::io::Result<ExitStatus> {
        self.child.wait()
    }
}

/// Creates a container: checks, plans, and starts its owner.
///
/// # Errors
/// On any, nothing is left behind.
pub fn create(store: &Store, creation: &Creation) -> Result<(Container, OwnerChild), Error> {
    let entry = store.reserve(&creation.id)?;
    let created = create_in(&entry, creation);
    if created.is_err() {
        entry.remove()?;
    }
    let (record, owner) = created?;
    Ok((Container { entry, record }, owner))
}

fn create_in(entry: &Entry, creation: &Creation) -> Result<(Record, OwnerChild), Error> {
    let _lock = entry.lock()?;
    let bundle = Bundle::load(&creation.bundle)?;
    let order = order(entry, &bundle, creation)?;
    let (caller, far) = UnixStream::pair().map_err(Error::Spawn)?;
    let mut owner = spawn_owner("monitor", far.into())?;
    let caller = Connection::from(caller);
    let outcome = caller
        .send(&order, &[])
        .and_then(|()| caller.receive::<Outcome>());
    match outcome {
        Ok((Outcome::Created, _)) => Ok((entry.read()?, owner)),
        Ok((Outcome::Failed { message }, _)) => {
            owner.child.wait().ok();
            Err(Error::Refused(message))
        }
        Err(err) => {
            owner.child.kill().and_then(|()| owner.child.wait()).ok();
            Err(err.into())
        }
    }
}

fn order(entry: &Entry, bundle: &Bundle, creation: &Creation) -> Result<Order, Error> {
    let installation = Installation::find()?;
    let facts = HostFacts {
        cpus: std::thread::available_parallelism()
            .map_or(1, |cpus| u8::try_from(cpus.get()).unwrap_or(u8::MAX)),
        default_mem_mib: installation.config.default_mem_mib,
        default_vcpus: installation.config.default_vcpus,
        machine: installation.config.machine,
    };
    let plan = plan::plan(&creation.id, bundle, &facts)?;
    match (
        plan.terminal,
        creation.console_socket.is_some(),
        creation.foreground,
    ) {
        (true, false, false) => {
            return Err(Error::Terminal(
                "cannot allocate tty if caisson will detach without setting console socket",
            ));
        }
        (false, true, _) => {
            return Err(Error::Terminal(
                "cannot use console socket if the process has no terminal",
            ));
        }
        _ => {}
    }
    let record = Record {
        oci_version: bundle.spec.version().clone(),
        bundle: bundle.path.clone(),
        rootfs: bundle.rootfs.clone(),
        annotations: bundle.spec.annotations().clone().unwrap_or_default(),
        process: bundle.raw.get("process").cloned().unwrap_or_default(),
        ..Record::new(&creation.id)
    };
    let root = entry
        .dir()
        .parent()
        .unwrap_or_else(|| Path::new("/"))
        .to_owned();
    Ok(Order {
        id: creation.id.clone(),
        root,
        plan,
        record,
        console_socket: creation.console_socket.clone(),
        log: creation.log.clone(),
        log_json: creation.log_json,
        debug: creation.debug,
    })
}

/// Starts this program again as the process that stands for one in the guest.
/// It is forked, not exec'd in place, so that the caller's death signal and
/// wait belong to the short-lived command.
///
/// # Errors
/// When no process can be started.
pub fn spawn_owner(verb: &str, order: OwnedFd) -> Result<OwnerChild, Error> {
    let exe = std::env::current_exe().map_err(Error::Spawn)?;
    let mut command = Command::new(exe);
    command.arg(verb);
    let mapping = FdMapping {
        parent_fd: order,
        child_fd: ORDER_DESCRIPTOR,
    };
    command
        .fd_mappings(vec![mapping])
        .map_err(|err| Error::Spawn(std::io::Error::other(err)))?;
    Ok(OwnerChild {
        child: command.spawn().map_err(Error::Spawn)?,
    })
}

impl Container {
    /// Finds the container `id`.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(store: &Store, id: &str) -> Result<Self, Error> {
        let entry = store.entry(id)?;
        let record = entry.read()?;
        Ok(Self { entry, record })
    }

    /// What is kept of it.
    #[must_use]
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// Where its owner listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.entry.socket()
    }

    /// What it does.
    #[must_use]
    pub fn status(&self) -> Status {
        if !self.record.owner_lives() {
            return Status::Stopped;
        }
        match self.ask(&Request::Status) {
            Ok(Reply::Status(status)) => status,
            _ => Status::Stopped,
        }
    }

    /// Its state, as callers read it.
    #[must_use]
    pub fn state(&self) -> State {
        let status = self.status();
        let record = &self.record;
        State {
            oci_version: record.oci_version.clone(),
            id: record.id.clone(),
            pid: if status == Status::Stopped {
                0
            } else {
                record.pid
            },
            status,
            bundle: record.bundle.clone(),
            rootfs: record.rootfs.clone(),
            created: record.created.clone(),
            annotations: record.annotations.clone(),
            owner: record.owner_uid.to_string(),
        }
    }

    /// Runs the program of a created container.
    ///
    /// # Errors
    /// When it is not in state created, or can't be executed.
    pub fn start(&self) -> Result<(), Error> {
        match self.request(&Request::Start) {
            Err(Error::NotRunning) => Err(Error::StartStopped),
            other => other,
        }
    }

    /// Sends a signal to its init, or to all of its processes.
    ///
    /// # Errors
    /// [`Error::NotRunning`] when it has stopped; with `all` that is a success.
    pub fn kill(&self, signal: i32, all: bool) -> Result<(), Error> {
        match self.request(&Request::Kill { signal, all }) {
            Err(Error::NotRunning) if all => Ok(()),
            other => other,
        }
    }

    /// Its processes, with the guest's ids.
    ///
    /// # Errors
    /// When it does not run.
    pub fn processes(&self) -> Result<Vec<ProcessEntry>, Error> {
        match self.ask(&Request::Processes)? {
            Reply::Processes(processes) => Ok(processes),
            Reply::Failed { message } => Err(Error::Refused(message)),
            _ => Err(Error::NotRunning),
        }
    }

    /// Removes it; with `force` also if it still runs.
    ///
    /// # Errors
    /// [`Error::NotStopped`] when it runs and `force` is not given.
    pub fn delete(&self, force: bool) -> Result<(), Error> {
        let _lock = self.entry.lock()?;
        match self.status() {
            Status::Stopped => {}
            status @ (Status::Running | Status::Paused) if !force => {
                return Err(Error::NotStopped {
                    id: self.record.id.clone(),
                    status,
                });
            }
            _ => match self.kill(nix::libc::SIGKILL, true) {
                Ok(()) | Err(Error::NotRunning) => {}
                Err(err) if !force => return Err(err),
                // An owner that can't reach its guest is ended below.
                Err(_) => {}
            },
        }
        self.await_end()?;
        Ok(self.entry.remove()?)
    }

    /// The owner ends by itself after its guest; one that does not is killed,
    /// and its helpers die with it.
    fn await_end(&self) -> Result<(), Error> {
        if !self.record.owner_lives() {
            return Ok(());
        }
        let Some(pidfd) = Pid::from_raw(self.record.pid)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        else {
            return Ok(());
        };
        let ended = |limit: Duration| {
            let mut polled = [PollFd::new(&pidfd, PollFlags::IN)];
            let limit = rustix::event::Timespec {
                tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: 0,
            };
            matches!(poll(&mut polled, Some(&limit)), Ok(1))
        };
        if ended(END_LIMIT) {
            return Ok(());
        }
        pidfd_send_signal(&pidfd, Signal::KILL).ok();
        if ended(END_LIMIT) {
            Ok(())
        } else {
            Err(Error::StillThere(self.record.id.clone()))
        }
    }

    fn request(&self, request: &Request) -> Result<(), Error> {
        match self.ask(request)? {
            Reply::Done => Ok(()),
            Reply::Failed { message } => Err(Error::Refused(message)),
            _ => Err(Error::NotRunning),
        }
    }

    fn ask(&self, request: &Request) -> Result<Reply, Error> {
        if !self.record.owner_lives() {
            return Err(Error::NotRunning);
        }
        let gone = |err| match err {
            owner::Error::Closed => Error::NotRunning,
            other => other.into(),
        };
        let connection = owner::connect(&self.entry.socket()).map_err(gone)?;
        connection.send(request, &[]).map_err(gone)?;
        connection
            .receive::<Reply>()
            .map(|(reply, _)| reply)
            .map_err(gone)
    }
}

/// Removes what a create that was killed half-way has left.
///
/// # Errors
/// When the folder can't be removed.
pub fn remove_leftover(store: &Store, id: &str) -> Result<(), Error> {
    let entry = store.entry(id)?;
    let _lock = entry.lock()?;
    match entry.read() {
        Err(store::Error::NotExist(_)) => Ok(entry.remove()?),
        _ => Ok(()),
    }
}
