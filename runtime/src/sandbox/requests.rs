//! Answers what other commands ask of this container's owner.
//!
//! Owns the status and which request is legal in it. One thread per
//! connection; a connection that started a process stands for that process.

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use caisson_protocol::client::agent::{Exited, Stdio};

use super::agent::{Agent, ProcessName};
use super::error::Error;
use super::streams::{Expected, Streams};
use super::thread;
use crate::fields::process_for_guest;
use crate::owner::{Connection, ExecRequest, Reply, Request, Status};
use crate::seccomp::Filter;
use crate::stdio::GuestStreams;

/// The agent connects streams before it answers, so they are there or lost.
const STREAM_LIMIT: Duration = Duration::from_secs(10);

/// What the threads that answer requests share.
pub(crate) struct Desk {
    id: String,
    agent: Agent,
    streams: Streams,
    /// Holds for every process of the container.
    seccomp: Option<Filter>,
    status: Mutex<Status>,
    execs: Mutex<HashMap<String, Exec>>,
    exec_count: AtomicU64,
}

/// A process that a command has started beside the container's init.
enum Exec {
    /// The agent was asked; whoever asked has no answer yet.
    Starting {
        /// Its end, where that came first.
        ended: Option<Reply>,
    },
    /// Whoever asked waits for its end.
    Running(Connection),
}

/// The ports that a process's streams will come from.
pub(crate) struct Ports {
    stdin: Option<Expected>,
    stdout: Expected,
    stderr: Option<Expected>,
    terminal: bool,
}

impl Ports {
    pub(crate) fn reserve(streams: &Streams, terminal: bool, stdin: bool) -> Self {
        Self {
            stdin: stdin.then(|| streams.expect()),
            stdout: streams.expect(),
            stderr: (!terminal).then(|| streams.expect()),
            terminal,
        }
    }

    pub(crate) fn stdio(&self) -> Stdio {
        let port = |expected: &Option<Expected>| expected.as_ref().map_or(0, |port| port.port);
        Stdio {
            terminal: self.terminal,
            stdin_port: port(&self.stdin),
            stdout_port: self.stdout.port,
            stderr_port: port(&self.stderr),
            ..Default::default()
        }
    }

    /// The streams, which the agent has connected by now.
    pub(crate) fn take(self) -> Result<GuestStreams, String> {
        let take = |expected: &Expected| {
            expected
                .take(STREAM_LIMIT)
                .ok_or("the guest's agent did not connect a stream")
        };
        Ok(GuestStreams {
            stdin: self.stdin.as_ref().map(take).transpose()?,
            stdout: Some(take(&self.stdout)?),
            stderr: self.stderr.as_ref().map(take).transpose()?,
        })
    }
}

impl Desk {
    pub(crate) fn new(
        id: &str,
        agent: Agent,
        streams: Streams,
        seccomp: Option<Filter>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id: id.to_owned(),
            agent,
            streams,
            seccomp,
            status: Mutex::new(Status::Created),
            execs: Mutex::default(),
            exec_count: AtomicU64::new(0),
        })
    }

    /// Takes connections until the process ends.
    pub(crate) fn open(self: &Arc<Self>, listener: UnixListener) -> Result<(), Error> {
        let desk = Arc::clone(self);
        let work = move || {
            for stream in listener.incoming().flatten() {
                desk.serve(stream.into());
            }
        };
        thread::spawn("requests", 256, work)
    }

    /// The container's init has ended: nothing more can be started in it.
    pub(crate) fn close(&self) {
        *self.status() = Status::Stopped;
    }

    /// Tells whoever started the process that it has ended.
    pub(crate) fn exec_ended(&self, exited: &Exited) {
        let mut execs = self.execs();
        match execs.get_mut(&exited.exec_id) {
            Some(Exec::Starting { ended: early }) => *early = Some(ended(exited)),
            Some(Exec::Running(connection)) => {
                ignore(connection.send(&ended(exited), &[]));
                execs.remove(&exited.exec_id);
            }
            None => {}
        }
    }

    /// Every process that still runs has ended with the machine.
    pub(crate) fn all_ended(&self) {
        for (_, exec) in self.execs().drain() {
            if let Exec::Running(connection) = exec {
                let killed = Reply::Exited {
                    status: 137,
                    stdout_bytes: 0,
                    stderr_bytes: 0,
                };
                ignore(connection.send(&killed, &[]));
            }
        }
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn execs(&self) -> MutexGuard<'_, HashMap<String, Exec>> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(self: &Arc<Self>, connection: Connection) {
        let desk = Arc::clone(self);
        thread::spawn("request", 256, move || desk.converse(&connection)).ok();
    }

    fn converse(&self, connection: &Connection) {
        let mut started: Option<ProcessName> = None;
        while let Ok((request, _)) = connection.receive::<Request>() {
            let answer = match (request, &started) {
                (Request::Exec(exec), None) => match self.exec(connection, &exec) {
                    Ok(name) => {
                        started = Some(name);
                        continue;
                    }
                    Err(message) => Reply::Failed { message },
                },
                (Request::Signal { signal }, Some(name)) => {
                    ignore(self.agent.signal(name, signal, false));
                    continue;
                }
                (Request::Resize { rows, columns }, Some(name)) => {
                    ignore(self.agent.resize(name, rows, columns));
                    continue;
                }
                (request, _) => self.answer(&request),
            };
            if connection.send(&answer, &[]).is_err() {
                break;
            }
        }
        if let Some(name) = started {
            self.abandon(&name);
        }
    }

    /// Whoever started the process is gone: the process must not outlive it.
    fn abandon(&self, name: &ProcessName) {
        if self.execs().remove(&name.exec_id).is_some() {
            ignore(self.agent.signal(name, nix::libc::SIGKILL, false));
        }
    }

    fn answer(&self, request: &Request) -> Reply {
        let done = match request {
            Request::Status => return Reply::Status(*self.status()),
            Request::Processes => match self.agent.processes(&self.id) {
                Ok(processes) => return Reply::Processes(processes),
                Err(message) => Err(message),
            },
            Request::Start => self.start(),
            Request::Kill { signal, all } => self.kill(*signal, *all),
            Request::Exec(_) | Request::Signal { .. } | Request::Resize { .. } => {
                Err("this connection has no process, or has one already".to_owned())
            }
        };
        match done {
            Ok(()) => Reply::Done,
            Err(message) => Reply::Failed { message },
        }
    }

    fn start(&self) -> Result<(), String> {
        let mut status = self.status();
        match *status {
            Status::Created => {}
            Status::Stopped => return Err("cannot start a container that has stopped".into()),
            _ => return Err("cannot start an already running container".into()),
        }
        self.agent.start(&self.id)?;
        *status = Status::Running;
        Ok(())
    }

    fn kill(&self, signal: i32, all: bool) -> Result<(), String> {
        if *self.status() == Status::Stopped {
            return if all {
                Ok(())
            } else {
                Err("container not running".into())
            };
        }
        self.agent.signal(&self.init(), signal, all)
    }

    fn init(&self) -> ProcessName {
        ProcessName {
            container_id: self.id.clone(),
            exec_id: String::new(),
        }
    }

    fn exec(&self, connection: &Connection, exec: &ExecRequest) -> Result<ProcessName, String> {
        match *self.status() {
            Status::Created | Status::Running => {}
            Status::Paused => return Err("cannot exec in a paused container".into()),
            _ => return Err("cannot exec in a stopped container".into()),
        }
        let number = self.exec_count.fetch_add(1, Ordering::Relaxed);
        let name = ProcessName {
            container_id: self.id.clone(),
            exec_id: format!("exec-{number}"),
        };
        let process =
            serde_json::to_vec(&process_for_guest(&exec.process)).map_err(|err| err.to_string())?;
        let ports = Ports::reserve(&self.streams, exec.terminal, exec.stdin);
        // Known before it runs: it may end before its streams are handed over.
        self.execs()
            .insert(name.exec_id.clone(), Exec::Starting { ended: None });
        let begun = self
            .agent
            .exec(&name, process, ports.stdio(), self.seccomp.as_ref())
            .and_then(|()| ports.take())
            .and_then(|streams| self.announce(&name, connection, &streams));
        if begun.is_err() {
            self.execs().remove(&name.exec_id);
        }
        begun.map(|()| name)
    }

    /// Hands the streams over, and the end too where it has come already.
    fn announce(
        &self,
        name: &ProcessName,
        connection: &Connection,
        streams: &GuestStreams,
    ) -> Result<(), String> {
        let later = connection.duplicate().map_err(|err| err.to_string())?;
        let all = [&streams.stdin, &streams.stdout, &streams.stderr];
        let numbers: Vec<_> = all.into_iter().flatten().map(AsRawFd::as_raw_fd).collect();
        let mut execs = self.execs();
        connection
            .send(&Reply::Started, &numbers)
            .map_err(|err| err.to_string())?;
        match execs.insert(name.exec_id.clone(), Exec::Running(later)) {
            Some(Exec::Starting { ended: Some(ended) }) => {
                execs.remove(&name.exec_id);
                connection.send(&ended, &[]).map_err(|err| err.to_string())
            }
            _ => Ok(()),
        }
    }
}

/// What is told of a process's end.
pub(crate) fn ended(exited: &Exited) -> Reply {
    Reply::Exited {
        status: u8::try_from(exited.status).unwrap_or(u8::MAX),
        stdout_bytes: exited.stdout_bytes,
        stderr_bytes: exited.stderr_bytes,
    }
}

/// For requests that are not answered: the process may just have ended.
fn ignore<E>(result: Result<(), E>) {
    drop(result);
}
