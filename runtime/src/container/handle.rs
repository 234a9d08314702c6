//! A container's life as other programs see it: start, kill, delete, state.
//! It begins in `creation`.
//!
//! Owns the legal moves and what is left on disk between them. The work is done
//! by the container's owner, a process of its own; this is the only way to it
//! for the command line and any other door.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::cgroup;
use crate::container::creator;
use crate::container::resources;
use crate::container::statistics::Statistics;
use crate::container::store;
use crate::container::store::{Entry, Record, Store};
use crate::hooks;
use crate::hooks::HookKind;
use crate::host::identity;
use crate::log::Log;
use crate::network;
use crate::oci::bundle;
use crate::oci::plan;
use crate::owner;
use crate::owner::{Connection, ProcessEntry, Reply, Request, Status};
use crate::process::pidfd::Pidfd;

/// A killed container is gone by then, or is ended from outside.
const END_LIMIT: Duration = Duration::from_secs(10);
/// An owner may have to ask its guest, which has half of this.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// How the agent begins to say that the kernel refuses a program that was found. One that
/// was not found is refused at creation (`exec: "NAME": ...`).
const NOT_EXECUTED: &str = "exec ";

/// Why a move failed. The texts follow runc's where callers match them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state directory.
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
    Installation(#[from] crate::config::installation::Error),
    /// The owner could not be started.
    #[error("start the container's owner")]
    Spawn(#[source] std::io::Error),
    /// The container's cgroup on the host.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// The container's network namespace on the host.
    #[error(transparent)]
    Network(#[from] network::Error),
    /// Something to be done for the owner failed.
    #[error(transparent)]
    CreatorRequest(#[from] creator::Error),
    /// A hook failed.
    #[error(transparent)]
    Hook(#[from] hooks::Error),
    /// No machine can be had.
    #[error(transparent)]
    Machine(#[from] crate::vm::hypervisor_error::Error),
    /// The owner failed or refused; the text is its own.
    #[error("{0}")]
    Refused(String),
    /// Its program was found, and the guest's kernel doesn't execute it: its format, or
    /// its interpreter. The text is the guest's.
    #[error("{0}")]
    NotExecuted(String),
    /// The conversation with the owner broke.
    #[error(transparent)]
    Owner(#[from] owner::Error),
    /// There is no owner any more.
    #[error("container not running")]
    NotRunning,
    /// It is not frozen.
    #[error("container not paused")]
    NotPaused,
    /// An update asks for what can't be done.
    #[error(transparent)]
    Resources(#[from] resources::Error),
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
    /// A container that joins a machine asks for another one.
    #[error("config.json: {0} is of a machine, and this container joins one that is there")]
    Joined(&'static str),
    /// A terminal with no one to hold it, or the other way round.
    #[error("{0}")]
    Terminal(&'static str),
    /// Nobody takes the terminal.
    #[error("console socket {}", path.display())]
    ConsoleSocket {
        /// The socket.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The owner would not end.
    #[error("container {0} did not end within {limit} s", limit = END_LIMIT.as_secs())]
    StillThere(String),
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
    /// Directory of the bundle.
    pub bundle: PathBuf,
    /// Root file system.
    pub rootfs: PathBuf,
    /// Creation time, RFC 3339.
    pub created: String,
    /// Annotations of config.json.
    #[serde(skip_serializing_if = "std::collections::HashMap::is_empty")]
    pub annotations: std::collections::HashMap<String, String>,
    /// User who created it, by name.
    pub owner: String,
}

/// A container that exists.
#[derive(Debug, Clone)]
pub struct Container {
    entry: Entry,
    record: Record,
}

impl Container {
    pub(crate) const fn new(entry: Entry, record: Record) -> Self {
        Self { entry, record }
    }

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
    ///
    /// # Errors
    /// When its owner lives and does not tell: such a container has not stopped.
    pub fn status(&self) -> Result<Status, Error> {
        match self.ask(&Request::Status) {
            Ok(Reply::Status(status)) => Ok(status),
            Ok(_) | Err(Error::NotRunning) => self.without_answer(),
            Err(err) => Err(err),
        }
    }

    /// An owner that hangs up has ended, or is about to.
    fn without_answer(&self) -> Result<Status, Error> {
        let ended = Pidfd::of(self.record.pid).is_ok_and(|owner| owner.ends_within(END_LIMIT));
        if ended || !self.record.owner_lives() {
            Ok(Status::Stopped)
        } else {
            Err(owner::Error::Silent.into())
        }
    }

    /// Its state, as callers read it.
    ///
    /// # Errors
    /// As [`Container::status`].
    pub fn state(&self) -> Result<State, Error> {
        let status = self.status()?;
        let record = &self.record;
        Ok(State {
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
            owner: identity::user_name(record.owner_uid),
        })
    }

    /// Runs the program of a created container, then its poststart hooks. When one of
    /// them fails, the container is deleted, as the specification has it since 1.3
    /// (runtime.md, "Lifecycle"); what its poststop hooks fail of is told in `log`.
    ///
    /// # Errors
    /// When it is not in state created, or can't be executed; a hook's failure.
    pub fn start(&self, log: &Log) -> Result<(), Error> {
        self.request(&Request::Start).map_err(|err| match err {
            Error::NotRunning => Error::StartStopped,
            Error::Refused(message) if message.starts_with(NOT_EXECUTED) => {
                Error::NotExecuted(message)
            }
            other => other,
        })?;
        let hooked = hooks::run(HookKind::Poststart, &self.record, self.record.pid);
        if hooked.is_err() {
            match self.delete(true, log) {
                // Somebody else was faster.
                Ok(()) | Err(Error::Store(store::Error::NotExist(_))) => {}
                Err(err) => return Err(err),
            }
        }
        Ok(hooked?)
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

    /// Freezes its processes.
    ///
    /// # Errors
    /// [`Error::NotRunning`] when it has stopped; the owner's refusal when it is
    /// paused already.
    pub fn pause(&self) -> Result<(), Error> {
        self.request(&Request::Pause)
    }

    /// Lets its frozen processes go on.
    ///
    /// # Errors
    /// [`Error::NotPaused`] when they aren't frozen.
    pub fn resume(&self) -> Result<(), Error> {
        match self.request(&Request::Resume) {
            Err(Error::NotRunning) => Err(Error::NotPaused),
            other => other,
        }
    }

    /// Changes its limits; what `resources` (OCI `linux.resources`) lacks stays.
    ///
    /// # Errors
    /// [`Error::NotRunning`] when it has stopped; the name of what can't be applied.
    pub fn update(&self, resources: &Value) -> Result<(), Error> {
        let resources = resources::for_update(resources, self.record.mem_mib)?;
        self.request(&Request::Update { resources })?;
        match &self.record.cgroup {
            Some(group) => Ok(group.set_scope_properties()?),
            None => Ok(()),
        }
    }

    /// What it uses.
    ///
    /// # Errors
    /// [`Error::NotRunning`] when it has stopped.
    pub fn statistics(&self) -> Result<Statistics, Error> {
        match self.ask(&Request::Statistics)? {
            Reply::Statistics(statistics) => Ok(*statistics),
            Reply::Failed { message } => Err(Error::Refused(message)),
            _ => Err(Error::NotRunning),
        }
    }

    /// The last lines of its guest's console.
    ///
    /// # Errors
    /// [`Error::NotRunning`] when it has stopped.
    pub fn console(&self) -> Result<Vec<String>, Error> {
        match self.ask(&Request::Console)? {
            Reply::Console(lines) => Ok(lines),
            Reply::Failed { message } => Err(Error::Refused(message)),
            _ => Err(Error::NotRunning),
        }
    }

    /// A connection on which [`Reply::OutOfMemory`] arrives each time the kernel has
    /// killed a process of it for lack of memory, until the container's end.
    ///
    /// # Errors
    /// [`Error::NotRunning`] when it has stopped.
    pub fn follow(&self) -> Result<Connection, Error> {
        let connection = self.connection()?;
        match answer(&connection, &Request::Follow)? {
            Reply::Done => Ok(connection),
            _ => Err(Error::NotRunning),
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

    /// The host's processes that stand for it: its owner, then those of its execs.
    ///
    /// # Errors
    /// When it does not run.
    pub fn owners(&self) -> Result<Vec<i32>, Error> {
        match self.ask(&Request::Owners)? {
            Reply::Owners(owners) => Ok(owners),
            _ => Err(Error::NotRunning),
        }
    }

    /// Removes it, with `force` also if it still runs, and runs its poststop
    /// hooks; those that fail are told in `log`.
    ///
    /// # Errors
    /// [`Error::NotStopped`] when it runs and `force` is not given.
    pub fn delete(&self, force: bool, log: &Log) -> Result<(), Error> {
        let _held = self.entry.lock()?;
        if self.entry.read()?.created != self.record.created {
            // Another one of that name, made after this one was deleted.
            return Err(store::Error::NotExist(self.record.id.clone()).into());
        }
        self.delete_held(force, log)
    }

    fn delete_held(&self, force: bool, log: &Log) -> Result<(), Error> {
        match self.status() {
            Ok(Status::Stopped) => {}
            Ok(status @ (Status::Running | Status::Paused)) if !force => {
                return Err(Error::NotStopped {
                    id: self.record.id.clone(),
                    status,
                });
            }
            Err(err) if !force => return Err(err),
            // An owner that says nothing is ended below.
            Err(_) => {}
            Ok(_) => match self.kill(nix::libc::SIGKILL, true) {
                Ok(()) | Err(Error::NotRunning) => {}
                Err(err) if !force => return Err(err),
                // An owner that can't reach its guest is ended below.
                Err(_) => {}
            },
        }
        self.await_end()?;
        if let Some(namespace) = &self.record.network {
            // Its owner did, unless it was killed.
            network::restore(namespace, self.record.pid)?;
        }
        if let Some(group) = &self.record.cgroup {
            group.remove()?;
        }
        self.entry.remove()?;
        hooks::run_poststop(&self.record, log);
        Ok(())
    }

    /// The owner ends by itself after its guest; one that does not is killed,
    /// and its helpers die with it.
    fn await_end(&self) -> Result<(), Error> {
        if !self.record.owner_lives() {
            return Ok(());
        }
        let Ok(owner) = Pidfd::of(self.record.pid) else {
            return Ok(());
        };
        if owner.ends_within(END_LIMIT) {
            return Ok(());
        }
        owner.kill();
        if owner.ends_within(END_LIMIT) {
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
        let connection = self.connection()?;
        let takes_its_time = matches!(request, Request::Start | Request::Update { .. });
        if !takes_its_time {
            connection.limit(ANSWER_LIMIT).map_err(owner::Error::from)?;
        }
        answer(&connection, request)
    }

    fn connection(&self) -> Result<Connection, Error> {
        if !self.record.owner_lives() {
            return Err(Error::NotRunning);
        }
        owner::connect(&self.entry.socket()).map_err(gone)
    }
}

fn answer(connection: &Connection, request: &Request) -> Result<Reply, Error> {
    connection.send(request, &[]).map_err(gone)?;
    let (reply, _) = connection.receive::<Reply>().map_err(gone)?;
    Ok(reply)
}

/// An owner that is gone has ended with its container.
fn gone(err: owner::Error) -> Error {
    match err {
        owner::Error::Closed => Error::NotRunning,
        other => other.into(),
    }
}

/// Deletes the container `id`, as [`Container::delete`] does, once nobody else creates
/// or ends it; also what a creation that was killed half-way has left of it. Returns
/// its last record.
///
/// # Errors
/// [`store::Error::NotExist`] when there is none, a leftover included.
pub fn delete(store: &Store, id: &str, force: bool, log: &Log) -> Result<Record, Error> {
    let entry = store.entry(id)?;
    let _held = entry.lock()?;
    let record = match entry.read() {
        Err(err @ store::Error::NotExist(_)) => {
            entry.remove()?;
            return Err(err.into());
        }
        read => read?,
    };
    let container = Container::new(entry, record);
    container.delete_held(force, log)?;
    Ok(container.record)
}
