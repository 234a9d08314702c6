//! The containers of this machine and their processes.
//!
//! Owns the one table of them, and the check that a request is legal in the state of its
//! container. Each request is one method. The lock is never held over an await.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use caisson_protocol::server::agent::{
    ConnectLocalRequest, CreateContainerRequest, ExecRequest, Exited, NetworkConfiguration,
    Process as ListedProcess, SignalRequest, Statistics, Stdio, event::Kind,
};
use nix::{sched::CloneFlags, unistd::Pid};
use tokio::signal::unix::Signal;

use crate::{
    cgroup::Cgroup,
    container::{
        container_namespaces::ContainerNamespaces,
        launch::{Gate, PreparedProcess, launch},
        namespaces,
        seccomp::Filter,
        settings,
        setup::{LaunchSpec, Place},
        spec,
    },
    events::Events,
    failure::{Attempt, Failure},
    listing,
    network::{self, Network},
    notify,
    oom::{self, OomReporter},
    process::{self, Exit, Process, ProcessState},
    reaper, shares,
    stdio::{Connections, Pipes, Streams, pipes},
    transport::Transport,
};

/// The table of containers, the machine's network, and the queue of events.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) transport: Transport,
    /// Events for the host.
    pub(crate) events: Arc<Events>,
    table: Mutex<Table>,
    network: Mutex<Network>,
}

#[derive(Debug, Default)]
struct Table {
    containers: HashMap<String, Container>,
    process_names: HashMap<Pid, ProcessName>,
}

/// The name of a process in the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ProcessName {
    container_id: String,
    /// Empty for init.
    exec_id: String,
}

/// Signals whose default action ends a program, and that callers end one with.
const TERMINATING: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// A container that an exec enters.
#[derive(Debug)]
struct ExecTarget {
    init: OwnedFd,
    /// The directory of the cgroup into which the exec is cloned.
    cgroup: OwnedFd,
    namespaces: Arc<ContainerNamespaces>,
}

#[derive(Debug)]
struct Container {
    cgroup: Arc<Cgroup>,
    namespaces: Arc<ContainerNamespaces>,
    /// Present until the container is started.
    gate: Option<Gate>,
    /// The signal that ended it before it was started.
    killed_by: Option<u32>,
    /// `linux.sysctl`.
    settings: HashMap<String, String>,
    init: Process,
    execs: HashMap<String, Process>,
    oom: Arc<OomReporter>,
}

impl Guest {
    /// An empty machine that reaches its host by `transport`.
    #[must_use]
    pub(crate) fn new(transport: Transport) -> Self {
        Self {
            transport,
            events: Arc::default(),
            table: Mutex::default(),
            network: Mutex::default(),
        }
    }

    /// Changes the machine's network to what is `wanted`.
    ///
    /// # Errors
    /// The first thing that the kernel refuses.
    pub(crate) fn configure_network(&self, wanted: NetworkConfiguration) -> Result<(), Failure> {
        let mut network = self.network.lock().unwrap_or_else(PoisonError::into_inner);
        network.configure(wanted, &self.transport)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects a stream of the host with a port of loopback.
    ///
    /// # Errors
    /// When no socket listens there.
    pub(crate) async fn connect_local(&self, request: &ConnectLocalRequest) -> Result<(), Failure> {
        network::connect_local(request, &self.transport).await
    }

    /// Creates a container, whose program waits to be started.
    ///
    /// # Errors
    /// What could not be made; nothing is left of it then.
    pub(crate) async fn create(&self, request: &CreateContainerRequest) -> Result<Pid, Failure> {
        let cgroup = Arc::new(Cgroup::create(&request.container_id)?);
        let created = self.create_in(&cgroup, request).await;
        if created.is_err() {
            // The first error is the one to report.
            drop(cgroup.destroy().await);
        }
        created
    }

    async fn create_in(
        &self,
        cgroup: &Arc<Cgroup>,
        request: &CreateContainerRequest,
    ) -> Result<Pid, Failure> {
        let spec = spec::parse(&request.oci_spec)?;
        let namespaces = ContainerNamespaces::of(&spec)?;
        let joined = self.table().inits_of(namespaces::joined(&spec))?;
        let Some(process) = spec.process() else {
            return Err(Failure::Refused("process is missing".to_owned()));
        };
        let linux = spec.linux().as_ref();
        let resources = linux.and_then(|linux| linux.resources().as_ref());
        if let Some(resources) = resources {
            cgroup.limit(resources)?;
        }
        let rules = resources.and_then(|resources| resources.devices().as_deref());
        cgroup.limit_devices(rules.unwrap_or_default())?;
        let seccomp = Filter::parse(request.seccomp.as_ref())?;
        let id = &request.container_id;
        let notices = request.notify.then(|| notify::listen(id)).transpose()?;
        let (stdio_setup, child_ends) = StdioSetup::open(&self.transport, &request.stdio).await?;
        let launch_spec = LaunchSpec {
            place: Place::New {
                spec: &spec,
                state: &request.oci_state,
                submounts: &request.submounts,
                root_overlay_mib: NonZeroU32::new(request.root_overlay_mib),
                joined: &joined,
            },
            namespaces: &namespaces,
            process,
            stdio: &child_ends,
            terminal: request.stdio.terminal,
            seccomp: seccomp.as_ref(),
        };
        let waiting = launch(&launch_spec, cgroup.open()?.as_fd()).await?;
        drop(child_ends);
        // Only now: the set-up needs one task more than the program.
        if let Some(resources) = resources {
            cgroup.limit_tasks(resources)?;
        }
        let (init, gate) = stdio_setup.connect(waiting, ProcessState::Running)?;
        let pid = init.pid;
        let oom = Arc::new(OomReporter::new(id, cgroup, &self.events));
        let container = Container {
            cgroup: Arc::clone(cgroup),
            namespaces: Arc::new(namespaces),
            gate: Some(gate),
            killed_by: None,
            settings: linux
                .and_then(|linux| linux.sysctl().clone())
                .unwrap_or_default(),
            init,
            execs: HashMap::new(),
            oom: Arc::clone(&oom),
        };
        self.table().add(id, container);
        if let Some(notices) = notices {
            let events = Arc::clone(&self.events);
            tokio::spawn(notify::watch(notices, events, id.clone()));
        }
        tokio::spawn(oom::watch(oom));
        Ok(pid)
    }

    /// Starts the program of a created container.
    ///
    /// # Errors
    /// Why execve failed, that the container isn't one to be started, or a setting of
    /// its interfaces that the kernel refuses.
    pub(crate) async fn start(&self, container_id: &str) -> Result<(), Failure> {
        let gate = {
            let mut table = self.table();
            let container = table.container(container_id)?;
            if container.gate.is_some() {
                settings::set_of_interfaces(&container.settings)?;
            }
            container.gate.take()
        };
        let Some(gate) = gate else {
            // The host calls a second time only where the first call has failed: no process
            // is left to start, and its exit is about to be queued.
            let ended = format!("container {container_id} was started before, or has ended");
            return Err(Failure::Missing(ended));
        };
        gate.open().await
    }

    /// Runs one more process in a container.
    ///
    /// # Errors
    /// Why it couldn't be run.
    pub(crate) async fn exec(&self, request: &ExecRequest) -> Result<Pid, Failure> {
        let process = spec::parse_process(&request.oci_process)?;
        let seccomp = Filter::parse(request.seccomp.as_ref())?;
        let target = self.table().exec_target(request)?;
        let (stdio_setup, child_ends) = StdioSetup::open(&self.transport, &request.stdio).await?;
        let launch_spec = LaunchSpec {
            place: Place::Existing { init: &target.init },
            namespaces: &target.namespaces,
            process: &process,
            stdio: &child_ends,
            terminal: request.stdio.terminal,
            seccomp: seccomp.as_ref(),
        };
        let waiting = launch(&launch_spec, target.cgroup.as_fd()).await?;
        drop((child_ends, target.cgroup));
        let (process, gate) = stdio_setup.connect(waiting, ProcessState::Starting)?;
        let pid = process.pid;
        let name = ProcessName {
            container_id: request.container_id.clone(),
            exec_id: request.exec_id.clone(),
        };
        self.table().add_exec(&name, process)?;
        let executed = gate.open().await;
        self.confirm_exec(&name, executed.is_ok());
        executed.map(|()| pid)
    }

    /// Confirms an exec whose program runs, from when on the host knows of it; an exec that
    /// has failed is removed.
    fn confirm_exec(&self, name: &ProcessName, runs: bool) {
        let mut table = self.table();
        let Some(container) = table.containers.get_mut(&name.container_id) else {
            return;
        };
        let Some(process) = container.execs.get_mut(&name.exec_id) else {
            return;
        };
        match process.state {
            ProcessState::Starting if runs => process.state = ProcessState::Running,
            ProcessState::Exited(exit) if runs => {
                let process = container.execs.remove(&name.exec_id);
                drop(table);
                self.report_exit(name.clone(), process.as_ref(), exit);
            }
            _ => {
                container.execs.remove(&name.exec_id);
            }
        }
    }

    /// Records exits for as long as the agent runs.
    pub(crate) async fn record_exits(&self, mut children_ended: Signal) {
        while children_ended.recv().await.is_some() {
            self.reap();
        }
    }

    fn reap(&self) {
        for ended in reaper::reap() {
            self.record_exit(ended.pid, ended.exit);
        }
    }

    /// Records the end of a process, and queues its event if the host knows the process.
    fn record_exit(&self, pid: Pid, mut exit: Exit) {
        let mut table = self.table();
        let Some(name) = table.process_names.remove(&pid) else {
            return;
        };
        let Some(container) = table.containers.get_mut(&name.container_id) else {
            return;
        };
        container.oom.report();
        if name.exec_id.is_empty() {
            if let Some(signal) = container.killed_by {
                exit.status = 128 + signal;
            }
            container.init.state = ProcessState::Exited(exit);
            // With a pid namespace of its own nothing is left; else this ends it.
            container.cgroup.kill().unwrap_or_default();
            self.report_exit(name, Some(&container.init), exit);
            return;
        }
        let Some(process) = container.execs.get_mut(&name.exec_id) else {
            return;
        };
        let known = process.state == ProcessState::Running;
        process.state = ProcessState::Exited(exit);
        if known {
            let process = container.execs.remove(&name.exec_id);
            self.report_exit(name, process.as_ref(), exit);
        }
    }

    fn report_exit(&self, name: ProcessName, process: Option<&Process>, exit: Exit) {
        let left = process.map(|process| process.streams.process_ended());
        let [stdout, stderr] = left.unwrap_or_default();
        self.events.push(Kind::Exited(Exited {
            container_id: name.container_id,
            exec_id: name.exec_id,
            status: exit.status,
            exited_unix_ns: exit.unix_ns,
            stdout_bytes: stdout.bytes,
            stderr_bytes: stderr.bytes,
            stdout_held: stdout.held,
            stderr_held: stderr.held,
            ..Default::default()
        }));
    }

    /// Sends a signal to one process, or to all of a container.
    ///
    /// # Errors
    /// No such process, or a number that isn't a signal.
    pub(crate) fn signal(&self, request: &SignalRequest) -> Result<(), Failure> {
        let number = i32::try_from(request.signal).unwrap_or(i32::MAX);
        let mut table = self.table();
        let container = table.container(&request.container_id)?;
        let waits = container.gate.is_some() && request.exec_id.is_empty();
        if waits && TERMINATING.contains(&number) {
            // The waiting process is PID 1 of its namespace and has no handlers: the kernel
            // would drop the signal.
            container.init.signal(libc::SIGKILL)?;
            container.killed_by = Some(request.signal);
            return Ok(());
        }
        if !request.all {
            return container.process(&request.exec_id)?.signal(number);
        }
        if number == libc::SIGKILL {
            return container.cgroup.kill();
        }
        for pid in container.cgroup.processes()? {
            process::signal_by_number(pid, number)?;
        }
        Ok(())
    }

    /// Sets the window size of a terminal.
    ///
    /// # Errors
    /// No such process, or one without a terminal.
    pub(crate) fn resize(
        &self,
        container_id: &str,
        exec_id: &str,
        rows: u32,
        columns: u32,
    ) -> Result<(), Failure> {
        let cells = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
        let mut table = self.table();
        let process = table.container(container_id)?.process(exec_id)?;
        process.streams.resize(cells(rows), cells(columns))
    }

    /// Lists the processes of a container.
    ///
    /// # Errors
    /// No such container.
    pub(crate) fn processes(&self, container_id: &str) -> Result<Vec<ListedProcess>, Failure> {
        let cgroup = self.cgroup_of(container_id)?;
        listing::describe(&cgroup.processes()?)
    }

    /// Freezes or thaws a container.
    ///
    /// # Errors
    /// No such container, or the kernel's refusal.
    pub(crate) async fn set_frozen(&self, container_id: &str, frozen: bool) -> Result<(), Failure> {
        let cgroup = self.cgroup_of(container_id)?;
        cgroup.set_frozen(frozen).await
    }

    /// Changes limits; what isn't mentioned stays as it is.
    ///
    /// # Errors
    /// No such container, or a limit that can't be applied.
    pub(crate) fn update(&self, container_id: &str, resources: &[u8]) -> Result<(), Failure> {
        let resources = spec::parse_resources(resources)?;
        let cgroup = self.cgroup_of(container_id)?;
        cgroup.limit(&resources)?;
        cgroup.limit_tasks(&resources)
    }

    /// Returns the statistics of a container.
    ///
    /// # Errors
    /// No such container.
    pub(crate) fn statistics(&self, container_id: &str) -> Result<Statistics, Failure> {
        Ok(self.cgroup_of(container_id)?.statistics())
    }

    /// Kills what is left of a container and deletes its record and shares.
    ///
    /// # Errors
    /// No such container, or a cgroup that can't be removed.
    pub(crate) async fn delete(
        &self,
        container_id: &str,
        unused: &[String],
    ) -> Result<(), Failure> {
        self.destroy(container_id).await?;
        shares::unmount_all(unused);
        Ok(())
    }

    async fn destroy(&self, container_id: &str) -> Result<(), Failure> {
        let cgroup = self.cgroup_of(container_id)?;
        cgroup.destroy().await?;
        // All processes are dead now: their exits are recorded while the table has them.
        self.reap();
        self.table().containers.remove(container_id);
        Ok(())
    }

    /// Kills every container.
    pub(crate) async fn kill_all(&self) {
        let ids: Vec<String> = self.table().containers.keys().cloned().collect();
        for id in ids {
            // The machine ends anyhow.
            self.destroy(&id).await.unwrap_or_default();
        }
    }

    fn cgroup_of(&self, container_id: &str) -> Result<Arc<Cgroup>, Failure> {
        let mut table = self.table();
        Ok(Arc::clone(&table.container(container_id)?.cgroup))
    }
}

impl Table {
    fn container(&mut self, id: &str) -> Result<&mut Container, Failure> {
        self.containers
            .get_mut(id)
            .ok_or_else(|| Failure::Missing("container does not exist".to_owned()))
    }

    /// References to the inits of containers.
    fn inits_of(
        &mut self,
        joined: Vec<(String, CloneFlags)>,
    ) -> Result<Vec<(OwnedFd, CloneFlags)>, Failure> {
        let init = |(id, flags): (String, CloneFlags)| {
            let init = &self.container(&id)?.init;
            Ok((init.pidfd.try_clone().step("refer to init")?, flags))
        };
        joined.into_iter().map(init).collect()
    }

    fn add(&mut self, id: &str, container: Container) {
        let name = ProcessName {
            container_id: id.to_owned(),
            exec_id: String::new(),
        };
        self.process_names.insert(container.init.pid, name);
        self.containers.insert(id.to_owned(), container);
    }

    fn add_exec(&mut self, name: &ProcessName, process: Process) -> Result<(), Failure> {
        let pid = process.pid;
        let container = self.container(&name.container_id)?;
        if name.exec_id.is_empty() || container.execs.contains_key(&name.exec_id) {
            let id = &name.exec_id;
            return Err(Failure::Refused(format!("exec {id:?} already exists")));
        }
        container.execs.insert(name.exec_id.clone(), process);
        self.process_names.insert(pid, name.clone());
        Ok(())
    }

    /// What an exec needs to enter a container.
    fn exec_target(&mut self, exec: &ExecRequest) -> Result<ExecTarget, Failure> {
        let container = self.container(&exec.container_id)?;
        if matches!(container.init.state, ProcessState::Exited(_)) {
            return Err(Failure::Missing("container not running".to_owned()));
        }
        if !exec.ignore_paused && container.cgroup.is_frozen()? {
            return Err(Failure::Refused(
                "cannot exec in a paused container (use --ignore-paused to override)".to_owned(),
            ));
        }
        let init = container.init.pidfd.try_clone().step("refer to init")?;
        let cgroup = container
            .cgroup
            .open_below(&exec.cgroup, container.init.pid)?;
        Ok(ExecTarget {
            init,
            cgroup,
            namespaces: Arc::clone(&container.namespaces),
        })
    }
}

impl Container {
    fn process(&mut self, exec_id: &str) -> Result<&mut Process, Failure> {
        if exec_id.is_empty() {
            return Ok(&mut self.init);
        }
        self.execs
            .get_mut(exec_id)
            .ok_or_else(|| Failure::Refused("os: process already finished".to_owned()))
    }
}

/// The agent's ends of a process's streams, before the process exists.
#[derive(Debug)]
struct StdioSetup {
    connections: Connections,
    pipes: Pipes,
}

impl StdioSetup {
    async fn open(
        transport: &Transport,
        stdio: &Stdio,
    ) -> Result<(Self, crate::stdio::ChildEnds), Failure> {
        let mut connections = Connections::open(transport, stdio).await?;
        let (pipes, child_ends) = pipes(&mut connections, stdio.terminal)?;
        Ok((Self { connections, pipes }, child_ends))
    }

    fn connect(
        self,
        waiting: PreparedProcess,
        state: ProcessState,
    ) -> Result<(Process, Gate), Failure> {
        let streams = match waiting.terminal {
            Some(master) => {
                Streams::over_terminal(master, self.connections).step("watch the terminal")?
            }
            None => Streams::over_pipes(self.pipes, self.connections),
        };
        let process = Process {
            pid: waiting.pid,
            pidfd: waiting.pidfd,
            streams,
            state,
        };
        Ok((process, waiting.gate))
    }
}
