//! One container in the guest: its state, and which request is legal in it.
//!
//! Owns its execs, too. Every container of a VM has one, the first as those that joined.

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use caisson_protocol::client::agent::{ExecRequest as AgentExec, Exited};
use caisson_protocol::rate::RateLimit;

use crate::container::stdio::{GuestStreams, Output};
use crate::monitor::joined_network;
use crate::monitor::late_output::LateOutput;
use crate::monitor::refusal::Refusal;
use crate::monitor::stdio_ports::{StdioPorts, StdioRequest};
use crate::monitor::subscribers::Subscribers;
use crate::oci::fields::{process_for_guest, resources_for_guest};
use crate::owner::{Connection, ExecRequest, GuestContainer, KILLED, Reply, Request, Status};
use crate::process::log_tail::LogTail;
use crate::seccomp::Filter;
use crate::vm::agent;
use crate::vm::agent::{Agent, AgentStart, ProcessName};
use crate::vm::kill_escalation::KillEscalation;
use crate::vm::limits::Limits;
use crate::vm::network::Network;
use crate::vm::vsock_ports::VsockPorts;

/// The news of an end, or a machine whose agent is gone for good, takes no longer.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// What every container of a VM uses of it.
#[derive(Clone)]
pub(crate) struct GuestAccess {
    pub(crate) agent: Agent,
    pub(crate) streams: VsockPorts,
    pub(crate) kill_escalation: KillEscalation,
    pub(crate) console: LogTail,
}

/// The process of this host that a container ends with.
pub(crate) enum Holder {
    /// This one, in whose network namespace and cgroup the VM is.
    Monitor {
        /// The VM's.
        limits: Arc<Limits>,
        /// The VM's.
        network: Arc<Network>,
        /// Of the container's init.
        output: Output,
    },
    /// Another one, which this connection ends with.
    Proxy {
        /// Its number.
        pid: i32,
        /// Gets the container's end.
        connection: Connection,
    },
}

/// One container, its state, and what can be done with it in each.
pub(crate) struct ContainerService {
    id: String,
    start: AgentStart,
    /// Holds for every process of the container.
    seccomp: Option<Filter>,
    vm: GuestAccess,
    holder: Holder,
    state: Mutex<ContainerState>,
    /// It has stopped.
    stopped: Condvar,
    killed: AtomicBool,
    subscribers: Subscribers,
    late_output: LateOutput,
    execs: Mutex<HashMap<String, Exec>>,
    exec_count: AtomicU64,
    told_out_of_memory: Mutex<RateLimit>,
}

/// What the container does, and does again once it is resumed.
struct ContainerState {
    status: Status,
    when_resumed: Status,
    /// The agent was asked to start it.
    starting: bool,
    /// Nothing of it is left in the machine.
    removed: bool,
}

impl Default for ContainerState {
    fn default() -> Self {
        Self {
            status: Status::Created,
            when_resumed: Status::Created,
            starting: false,
            removed: false,
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

impl ContainerService {
    /// A container that was created in the guest, and not started.
    pub(crate) fn new(container: &GuestContainer, vm: GuestAccess, holder: Holder) -> Arc<Self> {
        Arc::new(Self {
            id: container.id.clone(),
            start: AgentStart::of(&container.spec),
            seccomp: container.seccomp.clone(),
            vm,
            holder,
            state: Mutex::default(),
            stopped: Condvar::new(),
            killed: AtomicBool::new(false),
            subscribers: Subscribers::default(),
            late_output: LateOutput::default(),
            execs: Mutex::default(),
            exec_count: AtomicU64::new(0),
            told_out_of_memory: Mutex::default(),
        })
    }

    /// The container's init has ended: nothing more can be started in it. Whether that
    /// is news.
    pub(crate) fn close(&self) -> bool {
        let before = std::mem::replace(&mut self.state().status, Status::Stopped);
        self.stopped.notify_all();
        self.late_output.close();
        before != Status::Stopped
    }

    /// Nothing of the container is left in the machine.
    pub(crate) fn mark_removed(&self) {
        self.state().removed = true;
        self.stopped.notify_all();
    }

    /// Waits for that. Whether it came.
    pub(crate) fn is_removed_within(&self, limit: Duration) -> bool {
        let is_left = |state: &mut ContainerState| !state.removed;
        let waited = self
            .stopped
            .wait_timeout_while(self.state(), limit, is_left);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.removed
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
            self.subscribers.publish(&Reply::OutOfMemory);
        }
    }

    fn state(&self) -> MutexGuard<'_, ContainerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn status(&self) -> Status {
        self.state().status
    }

    fn execs(&self) -> MutexGuard<'_, HashMap<String, Exec>> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process has ended; its connection stays for what is still written.
    pub(crate) fn begin_late_output(
        &self,
        connection: &Connection,
        name: &ProcessName,
    ) -> Result<u64, String> {
        if name.exec_id.is_empty() || self.execs().contains_key(&name.exec_id) {
            return Err("the process of this connection has not ended".to_owned());
        }
        let connection = connection.duplicate().map_err(|err| err.to_string())?;
        self.late_output.add(connection)
    }

    /// How a refusal is told.
    pub(crate) fn refused(&self, refusal: Refusal) -> Reply {
        match refusal {
            Refusal::NotRunning => Reply::NotRunning,
            Refusal::Because(message) => Reply::Failed { message },
            // Once that is over it is clear whether the container runs.
            Refusal::Lost if self.vm.agent.is_back() => Reply::Failed {
                message: "the guest's agent has connected anew meanwhile: try again".to_owned(),
            },
            Refusal::Lost => self.not_running_or(agent::Error::Lost.to_string()),
            Refusal::Missing(message) => self.not_running_or(message),
        }
    }

    /// A container that has stopped, which may only just be on its way here, does not
    /// run; of one that does, that is not said.
    fn not_running_or(&self, message: String) -> Reply {
        let stops = |state: &mut ContainerState| state.status != Status::Stopped;
        let waited = self
            .stopped
            .wait_timeout_while(self.state(), STOP_LIMIT, stops);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match state.status {
            Status::Stopped => Reply::NotRunning,
            _ => Reply::Failed { message },
        }
    }

    /// Whoever started the process is gone: the process must not outlive it.
    pub(crate) fn abandon_exec(&self, name: &ProcessName) {
        if self.execs().remove(&name.exec_id).is_some() {
            self.signal(name, nix::libc::SIGKILL);
        }
    }

    /// Sends a signal to a process, which may just have ended.
    pub(crate) fn signal(&self, name: &ProcessName, signal: i32) {
        ignore(self.vm.agent.signal(name, signal, false));
    }

    /// Sets the size of a process's terminal.
    pub(crate) fn resize(&self, name: &ProcessName, rows: u16, columns: u16) {
        ignore(self.vm.agent.resize(name, rows, columns));
    }

    /// Reports events to `connection` until the number that is returned is given back.
    pub(crate) fn follow(&self, connection: Connection) -> u64 {
        self.subscribers.add(connection)
    }

    pub(crate) fn unfollow(&self, number: u64) {
        self.subscribers.remove(number);
    }

    pub(crate) fn end_late_output(&self, number: u64) {
        self.late_output.remove(number);
    }

    /// # Errors
    /// The VM ends with another container, or with this one by now.
    pub(crate) fn check_joinable(&self) -> Result<(), Refusal> {
        match self.holder {
            Holder::Proxy { .. } => Err("join the first container of the group".into()),
            Holder::Monitor { .. } if self.status() == Status::Stopped => Err(Refusal::NotRunning),
            Holder::Monitor { .. } => Ok(()),
        }
    }

    /// Sends the container's end to the process that holds it, if that is another.
    pub(crate) fn report_end(&self, end: &Reply) {
        if let Holder::Proxy { connection, .. } = &self.holder {
            ignore(connection.send(end, &[]));
        }
    }

    pub(crate) fn answer(self: &Arc<Self>, request: &Request) -> Result<Reply, Refusal> {
        let done = match request {
            Request::Status => return Ok(Reply::Status(self.status())),
            Request::Processes => return Ok(Reply::Processes(self.vm.agent.processes(&self.id)?)),
            Request::Owners => return Ok(Reply::Owners(self.owners())),
            Request::Statistics => {
                let statistics = self.vm.agent.statistics(&self.id)?;
                return Ok(Reply::Statistics(Box::new(statistics)));
            }
            Request::Console => return Ok(Reply::Console(self.vm.console.lines())),
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
        let holder = match &self.holder {
            Holder::Monitor { .. } => nix::unistd::getpid().as_raw(),
            Holder::Proxy { pid, .. } => *pid,
        };
        [holder].into_iter().chain(of_execs).collect()
    }

    fn start(&self) -> Result<(), Refusal> {
        let mut state = self.state();
        match state.status {
            Status::Created => {}
            Status::Stopped => return Err(Refusal::NotRunning),
            Status::Running => return Err("cannot start an already running container".into()),
            other => {
                let why = format!("cannot start a container in the {other} state");
                return Err(Refusal::Because(why));
            }
        }
        if std::mem::replace(&mut state.starting, true) {
            return Err("cannot start an already running container".into());
        }
        // While its hooks run, the container can be looked at, and killed.
        drop(state);
        let started = self.begin();
        let mut state = self.state();
        state.starting = false;
        started?;
        match state.status {
            Status::Created => state.status = Status::Running,
            Status::Paused => state.when_resumed = Status::Running,
            _ => {}
        }
        Ok(())
    }

    /// Its interfaces are there before its program.
    fn begin(&self) -> Result<(), Refusal> {
        match &self.holder {
            Holder::Monitor { network, .. } => network.begin().map_err(Refusal::Because)?,
            Holder::Proxy { pid, .. } => joined_network::check(*pid)?,
        }
        Ok(self.vm.agent.start(&self.id, self.start)?)
    }

    fn pause(&self) -> Result<(), Refusal> {
        let mut state = self.state();
        if !matches!(state.status, Status::Created | Status::Running) {
            return Err(Refusal::NotRunning);
        }
        self.vm.agent.pause(&self.id)?;
        state.when_resumed = state.status;
        state.status = Status::Paused;
        Ok(())
    }

    fn resume(&self) -> Result<(), Refusal> {
        let mut state = self.state();
        if state.status != Status::Paused {
            return Err("container not paused".into());
        }
        self.vm.agent.resume(&self.id)?;
        state.status = state.when_resumed;
        Ok(())
    }

    fn update(&self, resources: &serde_json::Value) -> Result<(), Refusal> {
        if self.status() == Status::Stopped {
            return Err(Refusal::NotRunning);
        }
        let guests = resources_for_guest(resources).to_string().into_bytes();
        let change_guest = || Ok(self.vm.agent.update(&self.id, guests)?);
        match &self.holder {
            Holder::Monitor { limits, .. } => limits.change(resources, change_guest),
            // The VM's limits are those of the first container.
            Holder::Proxy { .. } => change_guest(),
        }
    }

    pub(crate) fn kill(self: &Arc<Self>, signal: i32, all: bool) -> Result<(), Refusal> {
        let kills = signal == nix::libc::SIGKILL;
        if kills {
            self.escalate_kill();
        }
        if self.status() == Status::Stopped {
            return Err(Refusal::NotRunning);
        }
        let init = ProcessName::init_of(&self.id);
        match self.vm.agent.signal(&init, signal, all) {
            // It ends, one way or the other.
            Err(agent::Error::Silent) if kills => Ok(()),
            // The machine goes down with its container, or has gone.
            Err(agent::Error::Lost) if self.status() == Status::Stopped => Err(Refusal::NotRunning),
            Err(agent::Error::Lost) if kills => {
                let reason = "it was killed while the connection to its guest's agent was lost, so its machine was ended";
                self.vm.kill_escalation.end_machine(reason.to_owned());
                Ok(())
            }
            sent => Ok(sent?),
        }
    }

    /// Has the machine ended if nothing else ends what holds the container: this
    /// process, or for one that joined, what is left of it in the machine. That it has
    /// stopped is only what the guest says.
    fn escalate_kill(self: &Arc<Self>) {
        if let Holder::Monitor { output, .. } = &self.holder {
            // Its owner must not wait for somebody to read its last words.
            output.cap_drain_time();
        }
        let service = Arc::clone(self);
        let ends = move |limit| service.is_removed_within(limit);
        self.vm.kill_escalation.begin(&self.killed, ends);
    }

    pub(crate) fn exec(
        &self,
        connection: &Connection,
        exec: &ExecRequest,
    ) -> Result<ProcessName, Refusal> {
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
        let wanted = StdioRequest {
            terminal: exec.terminal,
            stdin: exec.stdin,
            further: exec.further,
        };
        let ports = StdioPorts::reserve(&self.vm.streams, wanted)?;
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
        if let Err(err) = self.vm.agent.exec(request, self.seccomp.as_ref()) {
            self.execs().remove(&name.exec_id);
            return Err(err.into());
        }
        let announced = ports
            .take()
            .and_then(|(streams, further)| self.announce(&name, connection, &streams, &further));
        if announced.is_err() {
            // It runs, and nobody would ever hear of it.
            self.abandon_exec(&name);
        }
        announced.map(|()| name).map_err(Refusal::Because)
    }

    /// Hands the streams over, and the end too where it has come already.
    fn announce(
        &self,
        name: &ProcessName,
        connection: &Connection,
        streams: &GuestStreams,
        further: &[UnixStream],
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
