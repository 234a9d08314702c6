//! Answers what other commands ask of this container's owner.
//!
//! Owns the status and which request is legal in it. One thread per
//! connection; a connection that started a process stands for that process.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use caisson_protocol::client::agent::{ExecRequest as AgentExec, Exited, Stdio};
use caisson_protocol::rate::RateLimit;

use super::Order;
use super::agent::{self, Agent, AgentStart, ProcessName};
use super::boot::Sandbox;
use super::error::Error;
use super::followers::Followers;
use super::insistence::Insistence;
use super::limits::Limits;
use super::lingering::Lingering;
use super::members::Members;
use super::network::Network;
use super::refusal::Refusal;
use super::streams::{Expected, Streams};
use super::{member_network, thread};
use crate::fields::{process_for_guest, resources_for_guest};
use crate::owner::{
    Connection, ExecRequest, GuestTerminal, JoinRequest, KILLED, Reply, Request, Status,
};
use crate::seccomp::Filter;
use crate::stdio::{GuestStreams, Output};

/// The agent connects streams before it answers, so they are there or lost.
const STREAM_LIMIT: Duration = Duration::from_secs(10);

/// Commands that one machine's containers take at the same time: each has a thread here,
/// and one that runs a process stays as long as that does.
const MAX_CONNECTIONS: usize = 512;

/// The news of an end, or a machine whose agent is gone for good, takes no longer.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// What the threads that answer requests share.
pub(crate) struct Desk {
    id: String,
    agent: Agent,
    start: AgentStart,
    streams: Streams,
    /// Holds for every process of the container.
    seccomp: Option<Filter>,
    /// None for a container that joined: the first one's hold for the machine.
    limits: Option<Arc<Limits>>,
    network: Option<Arc<Network>>,
    /// Of the first container alone.
    members: Option<Arc<Members>>,
    /// The process that stands for the container; this one without.
    stand_in: Option<i32>,
    doing: Mutex<Doing>,
    /// It has stopped.
    stopped: Condvar,
    insistence: Insistence,
    killed: AtomicBool,
    /// Of the init, where this process hands it on.
    output: Option<Output>,
    followers: Followers,
    lingering: Lingering,
    execs: Mutex<HashMap<String, Exec>>,
    exec_count: AtomicU64,
    told_out_of_memory: Mutex<RateLimit>,
    /// Has as many references as the machine's containers have connections, and a few.
    connections: Arc<()>,
}

/// What the container does, and does again once it is resumed.
struct Doing {
    status: Status,
    when_resumed: Status,
    /// The agent was asked to start it.
    starting: bool,
    /// Nothing of it is left in the machine.
    put_away: bool,
}

impl Default for Doing {
    fn default() -> Self {
        Self {
            status: Status::Created,
            when_resumed: Status::Created,
            starting: false,
            put_away: false,
        }
    }
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
    further: Vec<Expected>,
    terminal: GuestTerminal,
}

impl Ports {
    /// Ports for a process that may have a terminal, an input, and further
    /// descriptors.
    ///
    /// # Errors
    /// When the kernel has no random bytes.
    pub(crate) fn reserve(
        streams: &Streams,
        (terminal, stdin): (GuestTerminal, bool),
        further: usize,
    ) -> Result<Self, Error> {
        let expect = || streams.expect();
        Ok(Self {
            further: (0..further).map(|_| expect()).collect::<Result<_, _>>()?,
            stdin: stdin.then(expect).transpose()?,
            stdout: expect()?,
            stderr: (!terminal.exists()).then(expect).transpose()?,
            terminal,
        })
    }

    pub(crate) fn stdio(&self) -> Stdio {
        let port = |expected: &Option<Expected>| expected.as_ref().map_or(0, |port| port.port);
        Stdio {
            terminal: self.terminal.exists(),
            plain_newlines: self.terminal == GuestTerminal::PlainNewlines,
            stdin_port: port(&self.stdin),
            stdout_port: self.stdout.port,
            stderr_port: port(&self.stderr),
            further_ports: self.further.iter().map(|expected| expected.port).collect(),
            ..Default::default()
        }
    }

    /// The streams, which the agent has connected by now.
    pub(crate) fn take(self) -> Result<(GuestStreams, Vec<UnixStream>), String> {
        let take = |expected: &Expected| {
            expected
                .take(STREAM_LIMIT)
                .ok_or("the guest's agent did not connect a stream")
        };
        let further = self.further.iter().map(take).collect::<Result<_, _>>()?;
        let streams = GuestStreams {
            stdin: self.stdin.as_ref().map(take).transpose()?,
            stdout: Some(take(&self.stdout)?),
            stderr: self.stderr.as_ref().map(take).transpose()?,
        };
        Ok((streams, further))
    }
}

impl Desk {
    pub(crate) fn new(order: &Order, sandbox: &Sandbox, output: Output) -> Arc<Self> {
        Arc::new(Self {
            id: order.id.clone(),
            start: AgentStart::of(&order.plan.guest_spec),
            agent: sandbox.agent.clone(),
            streams: sandbox.streams.clone(),
            seccomp: order.plan.seccomp.clone(),
            limits: Some(Arc::clone(&sandbox.limits)),
            network: Some(Arc::clone(&sandbox.network)),
            members: Some(Arc::clone(&sandbox.members)),
            stand_in: None,
            doing: Mutex::default(),
            stopped: Condvar::new(),
            insistence: sandbox.insistence.clone(),
            killed: AtomicBool::new(false),
            output: Some(output),
            followers: Followers::default(),
            lingering: Lingering::default(),
            execs: Mutex::default(),
            exec_count: AtomicU64::new(0),
            told_out_of_memory: Mutex::default(),
            connections: Arc::clone(sandbox.members.connections()),
        })
    }

    /// The desk of one more container, for which the process `stand_in` stands.
    pub(crate) fn of_member(members: &Members, wish: &JoinRequest, stand_in: i32) -> Arc<Self> {
        Arc::new(Self {
            id: wish.container.id.clone(),
            start: AgentStart::of(&wish.container.spec),
            agent: members.agent().clone(),
            streams: members.streams().clone(),
            seccomp: wish.container.seccomp.clone(),
            limits: None,
            network: None,
            members: None,
            stand_in: Some(stand_in),
            doing: Mutex::default(),
            stopped: Condvar::new(),
            insistence: members.insistence().clone(),
            killed: AtomicBool::new(false),
            output: None,
            followers: Followers::default(),
            lingering: Lingering::default(),
            execs: Mutex::default(),
            exec_count: AtomicU64::new(0),
            told_out_of_memory: Mutex::default(),
            connections: Arc::clone(members.connections()),
        })
    }

    /// Takes connections until the process ends.
    pub(crate) fn open(self: &Arc<Self>, listener: UnixListener) -> Result<(), Error> {
        let desk = Arc::clone(self);
        let work = move || {
            thread::take_each(listener.incoming(), |stream| desk.serve(stream));
        };
        thread::spawn("requests", 256, work)
    }

    /// The container's init has ended: nothing more can be started in it. Whether that
    /// is news.
    pub(crate) fn close(&self) -> bool {
        let before = std::mem::replace(&mut self.doing().status, Status::Stopped);
        self.stopped.notify_all();
        self.lingering.close();
        before != Status::Stopped
    }

    /// Nothing of the container is left in the machine.
    pub(crate) fn is_put_away(&self) {
        self.doing().put_away = true;
        self.stopped.notify_all();
    }

    /// Waits for that. Whether it came.
    pub(super) fn is_put_away_within(&self, limit: Duration) -> bool {
        let is_left = |doing: &mut Doing| !doing.put_away;
        let waited = self
            .stopped
            .wait_timeout_while(self.doing(), limit, is_left);
        let (doing, _) = waited.unwrap_or_else(PoisonError::into_inner);
        doing.put_away
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
                ignore(connection.send(&killed(), &[]));
            }
        }
    }

    /// Tells whoever follows that a process was killed for lack of memory.
    pub(crate) fn out_of_memory(&self) {
        let mut limit = self.told_out_of_memory.lock();
        let limit = limit.as_deref_mut();
        if limit.is_ok_and(|limit| limit.pass(Instant::now()).is_some()) {
            self.followers.tell(&Reply::OutOfMemory);
        }
    }

    fn doing(&self) -> MutexGuard<'_, Doing> {
        self.doing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self) -> Status {
        self.doing().status
    }

    fn execs(&self) -> MutexGuard<'_, HashMap<String, Exec>> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(self: &Arc<Self>, stream: UnixStream) {
        let Some(connection) = Connection::accepted(stream) else {
            return;
        };
        let (desk, turn) = (Arc::clone(self), Arc::clone(&self.connections));
        if Arc::strong_count(&turn) > MAX_CONNECTIONS {
            let message = format!(
                "the container takes {MAX_CONNECTIONS} commands at a time: try again once one has ended"
            );
            return ignore(connection.send_at_once(&Reply::Failed { message }));
        }
        let work = move || {
            desk.converse(&connection, turn);
        };
        thread::spawn("request", 256, work).ok();
    }

    /// Answers until the other end hangs up. Meanwhile `turn` counts the connection, but
    /// for one that lingers.
    fn converse(self: &Arc<Self>, connection: &Connection, turn: Arc<()>) {
        let mut started: Option<ProcessName> = None;
        let (mut follower, mut lingers) = (None, None);
        let mut turn = Some(turn);
        while let Ok((request, descriptors)) = connection.receive::<Request>() {
            let answer = match (request, &started) {
                (Request::Exec(exec), None) => match self.exec(connection, &exec) {
                    Ok(name) => {
                        started = Some(name);
                        continue;
                    }
                    Err(refusal) => self.refused(refusal),
                },
                (Request::Join(wish), None) => match self.join(connection, &wish, descriptors) {
                    Ok(name) => {
                        started = Some(name);
                        continue;
                    }
                    Err(refusal) => self.refused(refusal),
                },
                (Request::Signal { signal }, Some(name)) => {
                    ignore(self.agent.signal(name, signal, false));
                    continue;
                }
                (Request::Resize { rows, columns }, Some(name)) => {
                    ignore(self.agent.resize(name, rows, columns));
                    continue;
                }
                (Request::Linger, Some(name)) if lingers.is_none() => {
                    let added = self.linger(connection, name);
                    lingers = added.as_ref().ok().copied();
                    // What lingers has a bound of its own.
                    turn = turn.filter(|_| lingers.is_none());
                    added.map_or_else(|message| Reply::Failed { message }, |_| Reply::Done)
                }
                (Request::Follow, _) if follower.is_none() => {
                    follower = connection
                        .duplicate()
                        .ok()
                        .map(|one| self.followers.add(one));
                    Reply::Done
                }
                (request, _) => {
                    let answer = self.answer(&request);
                    answer.unwrap_or_else(|refusal| self.refused(refusal))
                }
            };
            if connection.send(&answer, &[]).is_err() {
                break;
            }
        }
        if let Some(number) = follower {
            self.followers.remove(number);
        }
        if let Some(number) = lingers {
            self.lingering.remove(number);
        }
        drop(turn);
        if let Some(name) = started {
            self.abandon(&name);
        }
    }

    /// The process has ended; its connection stays for what is still written.
    fn linger(&self, connection: &Connection, name: &ProcessName) -> Result<u64, String> {
        if name.exec_id.is_empty() || self.execs().contains_key(&name.exec_id) {
            return Err("the process of this connection has not ended".to_owned());
        }
        let connection = connection.duplicate().map_err(|err| err.to_string())?;
        self.lingering.add(connection)
    }

    /// How a refusal is told.
    fn refused(&self, refusal: Refusal) -> Reply {
        match refusal {
            Refusal::NotRunning => Reply::NotRunning,
            Refusal::Because(message) => Reply::Failed { message },
            // Once that is over it is clear whether the container runs.
            Refusal::Lost if self.agent.is_back() => Reply::Failed {
                message: "the guest's agent has connected anew meanwhile: try again".to_owned(),
            },
            Refusal::Lost => self.not_running_or(agent::Error::Lost.to_string()),
            Refusal::Missing(message) => self.not_running_or(message),
        }
    }

    /// A container that has stopped, which may only just be on its way here, does not
    /// run; of one that does, that is not said.
    fn not_running_or(&self, message: String) -> Reply {
        let stops = |doing: &mut Doing| doing.status != Status::Stopped;
        let waited = self
            .stopped
            .wait_timeout_while(self.doing(), STOP_LIMIT, stops);
        let (doing, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match doing.status {
            Status::Stopped => Reply::NotRunning,
            _ => Reply::Failed { message },
        }
    }

    /// Whoever started the process is gone: the process must not outlive it.
    fn abandon(&self, name: &ProcessName) {
        if let (true, Some(members)) = (name.exec_id.is_empty(), &self.members) {
            return members.abandon(&name.container_id);
        }
        if self.execs().remove(&name.exec_id).is_some() {
            ignore(self.agent.signal(name, nix::libc::SIGKILL, false));
        }
    }

    fn join(
        &self,
        connection: &Connection,
        wish: &JoinRequest,
        descriptors: Vec<OwnedFd>,
    ) -> Result<ProcessName, Refusal> {
        let Some(members) = &self.members else {
            return Err("join the first container of the group".into());
        };
        if self.status() == Status::Stopped {
            return Err(Refusal::NotRunning);
        }
        members.join(connection, wish, descriptors)
    }

    fn answer(self: &Arc<Self>, request: &Request) -> Result<Reply, Refusal> {
        let done = match request {
            Request::Status => return Ok(Reply::Status(self.status())),
            Request::Processes => return Ok(Reply::Processes(self.agent.processes(&self.id)?)),
            Request::Owners => return Ok(Reply::Owners(self.owners())),
            Request::Statistics => {
                let statistics = self.agent.statistics(&self.id)?;
                return Ok(Reply::Statistics(Box::new(statistics)));
            }
            Request::Start => self.start(),
            Request::Kill { signal, all } => self.kill(*signal, *all),
            Request::Pause => self.pause(),
            Request::Resume => self.resume(),
            Request::Update { resources } => self.update(resources),
            Request::Exec(_)
            | Request::Join(_)
            | Request::Signal { .. }
            | Request::Resize { .. }
            | Request::Linger
            | Request::Follow => Err("this connection has no process, or has one already".into()),
        };
        done.map(|()| Reply::Done)
    }

    /// This process, then those that stand for execs.
    fn owners(&self) -> Vec<i32> {
        let execs = self.execs();
        let connections = execs.values().filter_map(|exec| match exec {
            Exec::Running(connection) => Some(connection),
            Exec::Starting { .. } => None,
        });
        let of_execs = connections.filter_map(|connection| connection.peer_pid().ok());
        let own = || nix::unistd::getpid().as_raw();
        [self.stand_in.unwrap_or_else(own)]
            .into_iter()
            .chain(of_execs)
            .collect()
    }

    fn start(&self) -> Result<(), Refusal> {
        let mut doing = self.doing();
        match doing.status {
            Status::Created => {}
            Status::Stopped => return Err(Refusal::NotRunning),
            Status::Running => return Err("cannot start an already running container".into()),
            other => {
                let why = format!("cannot start a container in the {other} state");
                return Err(Refusal::Because(why));
            }
        }
        if std::mem::replace(&mut doing.starting, true) {
            return Err("cannot start an already running container".into());
        }
        // While its hooks run, the container can be looked at, and killed.
        drop(doing);
        let started = self.begin();
        let mut doing = self.doing();
        doing.starting = false;
        started?;
        match doing.status {
            Status::Created => doing.status = Status::Running,
            Status::Paused => doing.when_resumed = Status::Running,
            _ => {}
        }
        Ok(())
    }

    /// Its interfaces are there before its program.
    fn begin(&self) -> Result<(), Refusal> {
        match (&self.network, self.stand_in) {
            (Some(network), _) => network.begin().map_err(Refusal::Because)?,
            (None, Some(stand_in)) => member_network::check(stand_in)?,
            (None, None) => {}
        }
        Ok(self.agent.start(&self.id, self.start)?)
    }

    fn pause(&self) -> Result<(), Refusal> {
        let mut doing = self.doing();
        if !matches!(doing.status, Status::Created | Status::Running) {
            return Err(Refusal::NotRunning);
        }
        self.agent.pause(&self.id)?;
        doing.when_resumed = doing.status;
        doing.status = Status::Paused;
        Ok(())
    }

    fn resume(&self) -> Result<(), Refusal> {
        let mut doing = self.doing();
        if doing.status != Status::Paused {
            return Err("container not paused".into());
        }
        self.agent.resume(&self.id)?;
        doing.status = doing.when_resumed;
        Ok(())
    }

    fn update(&self, resources: &serde_json::Value) -> Result<(), Refusal> {
        if self.status() == Status::Stopped {
            return Err(Refusal::NotRunning);
        }
        let guests = resources_for_guest(resources).to_string().into_bytes();
        let change_guest = || Ok(self.agent.update(&self.id, guests)?);
        match &self.limits {
            Some(limits) => limits.change(resources, change_guest),
            None => change_guest(),
        }
    }

    pub(super) fn kill(self: &Arc<Self>, signal: i32, all: bool) -> Result<(), Refusal> {
        let kills = signal == nix::libc::SIGKILL;
        if kills {
            self.insist();
        }
        if self.status() == Status::Stopped {
            return Err(Refusal::NotRunning);
        }
        let init = ProcessName::init_of(&self.id);
        match self.agent.signal(&init, signal, all) {
            // It ends, one way or the other.
            Err(agent::Error::Silent) if kills => Ok(()),
            // The machine goes down with its container, or has gone.
            Err(agent::Error::Lost) if self.status() == Status::Stopped => Err(Refusal::NotRunning),
            Err(agent::Error::Lost) if kills => {
                let reason = "it was killed while the connection to its guest's agent was lost, so its machine was ended";
                self.insistence.end_machine(reason.to_owned());
                Ok(())
            }
            sent => Ok(sent?),
        }
    }

    /// Has the machine ended if nothing else ends what holds the container: this
    /// process, or for one that joined, what is left of it in the machine. That it has
    /// stopped is only what the guest says.
    fn insist(self: &Arc<Self>) {
        if let Some(output) = &self.output {
            // Its owner must not wait for somebody to read its last words.
            output.hurry();
        }
        let desk = Arc::clone(self);
        let ends = move |limit| desk.is_put_away_within(limit);
        self.insistence.begin(&self.killed, ends);
    }

    fn exec(&self, connection: &Connection, exec: &ExecRequest) -> Result<ProcessName, Refusal> {
        match self.status() {
            Status::Created | Status::Running => {}
            Status::Paused if exec.ignore_paused => {}
            Status::Paused => {
                return Err(
                    "cannot exec in a paused container (use --ignore-paused to override)".into(),
                );
            }
            _ => return Err(Refusal::NotRunning),
        }
        let number = self.exec_count.fetch_add(1, Ordering::Relaxed);
        let name = ProcessName {
            container_id: self.id.clone(),
            exec_id: format!("exec-{number}"),
        };
        let ports = Ports::reserve(&self.streams, (exec.terminal, exec.stdin), exec.further)?;
        let process = process_for_guest(&exec.process);
        let request = AgentExec {
            container_id: name.container_id.clone(),
            exec_id: name.exec_id.clone(),
            oci_process: process.to_string().into_bytes(),
            stdio: Some(ports.stdio()).into(),
            cgroup: exec.cgroup.clone(),
            ignore_paused: exec.ignore_paused,
            ..Default::default()
        };
        // Known before it runs: it may end before its streams are handed over.
        self.execs()
            .insert(name.exec_id.clone(), Exec::Starting { ended: None });
        if let Err(err) = self.agent.exec(request, self.seccomp.as_ref()) {
            self.execs().remove(&name.exec_id);
            return Err(err.into());
        }
        let announced = ports
            .take()
            .and_then(|streams| self.announce(&name, connection, &streams));
        if announced.is_err() {
            // It runs, and nobody would ever hear of it.
            self.abandon(&name);
        }
        announced.map(|()| name).map_err(Refusal::Because)
    }

    /// Hands the streams over, and the end too where it has come already.
    fn announce(
        &self,
        name: &ProcessName,
        connection: &Connection,
        (streams, further): &(GuestStreams, Vec<UnixStream>),
    ) -> Result<(), String> {
        let later = connection.duplicate().map_err(|err| err.to_string())?;
        let all = [&streams.stdin, &streams.stdout, &streams.stderr];
        let standard = all.into_iter().flatten();
        let numbers: Vec<_> = standard.chain(further).map(AsRawFd::as_raw_fd).collect();
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

/// What is told of the end of a process whose machine has ended under it.
pub(crate) const fn killed() -> Reply {
    Reply::Exited {
        status: KILLED,
        stdout_bytes: 0,
        stderr_bytes: 0,
        stdout_held: false,
        stderr_held: false,
    }
}

/// What is told of a process's end.
pub(crate) fn ended(exited: &Exited) -> Reply {
    Reply::Exited {
        status: u8::try_from(exited.status).unwrap_or(u8::MAX),
        stdout_bytes: exited.stdout_bytes,
        stderr_bytes: exited.stderr_bytes,
        stdout_held: exited.stdout_held,
        stderr_held: exited.stderr_held,
    }
}

/// For requests that are not answered: the process may just have ended.
fn ignore<E>(result: Result<(), E>) {
    drop(result);
}
