//! The life of a container's owner, from its order to its container's exit.
//!
//! ```text
//!  order -> boot -> create in the guest -> "created" told -> events ... -> exit
//!              \-> failed: told, nothing left
//! ```
//! Owns the one loop in which everything that happens to the sandbox arrives
//! as an [`Event`]. Its process is the container's pid for callers, so it ends
//! with the container's status.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvError, SyncSender};
use std::time::{Duration, Instant};

use caisson_protocol::client::agent::Exited;
use caisson_protocol::client::agent::event::Kind as AgentEvent;
use caisson_vmm::control::Exit;

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::container::preserved_fds::FdRelay;
use crate::container::sd_notify::NotifySocket;
use crate::container::signals::BlockedSignals;
use crate::container::stdio;
use crate::container::stdio::{GuestStreams, Output, STALL_LIMIT};
use crate::container::store::Store;
use crate::container::terminal::Pty;
use crate::log::{Level, Log, Repeated};
use crate::monitor::container_service::{ContainerService, GuestAccess, Holder};
use crate::monitor::containers::{Containers, NewContainer};
use crate::monitor::create_request::{CreateRequest, MonitorMessage, Outcome, VmPlacement};
use crate::monitor::error::Error;
use crate::monitor::prepare::{host_stdio, open_terminal, release_caller, run_hooks};
use crate::monitor::server::Server;
use crate::monitor::state_lock::StateDirectory;
use crate::monitor::stdio_ports::StdioRequest;
use crate::monitor::{joined, mount_point, mount_view, namespaces};
use crate::owner;
use crate::owner::{Connection, GuestTerminal, KILLED};
use crate::process::program::Ending;
use crate::process::step;
use crate::process::thread;
use crate::vm::agent;
use crate::vm::agent::{Agent, ProcessName};
use crate::vm::boot::{EventQueue, Vm, VmConfig, boot, console_tail, end_of_machine};
use crate::vm::choice::Choice;
use crate::vm::clock;
use crate::vm::event::Event;

/// The guest flushes its files in this time, or loses what is left.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);
/// Events that wait to be looked at; whoever has one more waits with it, so that a guest
/// tells no more than is dealt with.
const MAX_EVENTS: usize = 64;

/// The end of a machine is noticed so long after that of its streams.
const SUDDEN_END_LIMIT: Duration = Duration::from_secs(1);

/// Carries the order out, and returns the exit status of this process. The
/// container's own gets `descriptors` from 3 up; the last of them is the lock of its
/// directory, held until who waits to delete it would find all there is.
#[must_use]
pub fn run(order: &CreateRequest, mut descriptors: Vec<OwnedFd>, caller: Connection) -> u8 {
    let directory = StateDirectory::of(order, descriptors.pop());
    let log = Log::of_request(order.log.as_deref(), order.log_json, order.debug);
    let choice = match &order.home {
        VmPlacement::Own(choice) => choice,
        VmPlacement::Joined(socket) => return joined::run(order, socket, &log, caller, directory),
    };
    // Each process of the container takes some; the rest of the host has its own limit.
    raise_limit_of_descriptors();
    let inputs = MonitorInputs {
        order,
        choice,
        caller: &caller,
        directory: &directory,
    };
    match Monitor::start(inputs, &log, descriptors) {
        Ok(monitor) => {
            for warning in &order.plan.warnings {
                log.write_if_file(Level::Warning, warning);
            }
            if caller
                .send(&MonitorMessage::Outcome(Outcome::Created), &[])
                .is_err()
            {
                // Nobody wants it any more. It is put away by whoever deletes it: this
                // process sees the container's files instead of the host's by now.
                drop(monitor);
                return KILLED;
            }
            drop((caller, directory));
            monitor.live(order.bound, &log)
        }
        Err(err) => {
            let message = crate::log::error_line::chain(&err);
            let failed = MonitorMessage::Outcome(Outcome::Failed { message });
            if caller.send(&failed, &[]).is_err() {
                remove_leftovers(order, &directory);
            }
            1
        }
    }
}

/// A command that gets the failure removes what was begun; this one is gone.
fn remove_leftovers(order: &CreateRequest, directory: &StateDirectory) {
    if let Some(group) = &order.record.cgroup {
        group.abandon();
    }
    directory.remove();
}

fn raise_limit_of_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it may not be raised, it is as good as it was.
    setrlimit(Resource::Nofile, limit).ok();
}

/// What the creating process has decided and handed over.
#[derive(Clone, Copy)]
struct MonitorInputs<'a> {
    order: &'a CreateRequest,
    /// How the VM is run.
    choice: &'a Choice,
    /// The creating process, which waits for the outcome.
    caller: &'a Connection,
    /// The container's state directory, locked until it is complete.
    directory: &'a StateDirectory,
}

struct Monitor {
    vm: Vm,
    containers: Arc<Containers>,
    /// The first container, whose end is the VM's.
    service: Arc<ContainerService>,
    events: Receiver<Event>,
    lines: Lines,
    init: ProcessName,
    terminal: Option<Pty>,
    output: Output,
    fd_relay: FdRelay,
    notify: Option<NotifySocket>,
}

impl Monitor {
    fn start(
        inputs: MonitorInputs<'_>,
        log: &Log,
        mut descriptors: Vec<OwnedFd>,
    ) -> Result<Self, Error> {
        let MonitorInputs {
            order,
            choice,
            caller,
            directory,
        } = inputs;
        let notify = order.notifies.then(|| descriptors.pop()).flatten();
        let own_session = nix::unistd::setsid();
        own_session.map_err(|errno| step("make a session")(errno.into()))?;
        let signals = BlockedSignals::begin().map_err(step("hold signals back"))?;
        namespaces::enter(&order.plan, caller)?;
        if let Some(policy) = &order.plan.memory_policy {
            policy.apply().map_err(step("set linux.memoryPolicy"))?;
        }
        run_hooks(order, caller)?;
        let (sender, receiver) = mpsc::sync_channel(MAX_EVENTS);
        let events = EventQueue { sender, receiver };
        let signal_events = events.sender.clone();
        signals
            .forward(move |signal| signal_events.send(Event::Signal(signal)).is_ok())
            .map_err(step("pass signals on"))?;
        watch_caller(caller, events.sender.clone())?;
        if let Some(filter) = &order.plan.seccomp {
            log.debug(&format!("seccomp filter flags: {}", filter.flags));
        }
        let new_points = mount_point::make(&order.record.rootfs, &order.plan.mount_points)?;
        let vm = boot(vm_config(order, choice), log, &events)?;
        follow_agent(&vm.agent, events.sender.clone())?;
        clock::follow(vm.agent.clone())?;

        let terminal = open_terminal(order)?;
        let created = create(order, &vm, terminal.as_ref(), &new_points, descriptors)?;
        directory.assert_own()?;
        let entry = Store::new(&order.root)?.entry(&order.id)?;
        let listener = owner::listen(&entry.socket()).map_err(step("listen for commands"))?;
        let containers = Arc::clone(&created.containers);
        Server::open(Arc::clone(&created.service), containers, listener)?;
        entry.write(&order.record.owned_by_this_process())?;
        keep_errors(order, log, &created.output, events.sender)?;
        release_caller()?;
        mount_view::enter(&order.plan, &order.record.rootfs)?;
        let monitor = Self {
            vm,
            containers: created.containers,
            service: created.service,
            events: events.receiver,
            lines: Lines::default(),
            init: ProcessName::init_of(&order.id),
            terminal,
            output: created.output,
            fd_relay: created.fd_relay,
            notify: notify.map(NotifySocket::from),
        };
        monitor.resize();
        Ok(monitor)
    }

    /// Until the container's init, or the machine under it, has ended.
    fn live(mut self, bound: bool, log: &Log) -> u8 {
        let status = loop {
            let cause = match self.next_event(log) {
                Ok(Event::CallerGone) if bound => "who created it is gone".to_owned(),
                Ok(Event::Agent(AgentEvent::Exited(exited))) if self.is_the_end(&exited) => {
                    break self.exited(&exited, log);
                }
                Ok(Event::MachineEnded(reason)) => reason.to_string(),
                Ok(Event::FileServerEnded(how)) => self.first_cause(&how),
                Ok(Event::AgentGone(err)) => err.to_string(),
                Ok(other) => {
                    self.take_note(other, log);
                    continue;
                }
                Err(_) => "every source of events is gone".to_owned(),
            };
            break self.lost(&cause, log);
        };
        self.lines.out_of_memory.write_rest(log, OUT_OF_MEMORY);
        self.containers.all_ended();
        self.vm.network.leave();
        status
    }

    /// Of what ends nothing.
    fn take_note(&mut self, event: Event, log: &Log) {
        match event {
            Event::Agent(news) => self.hear(&news, log),
            Event::Signal(signal) => self.signal(signal),
            Event::Warning(line) => self.lines.warnings.write(log, &line),
            _ => {}
        }
    }

    /// The next event. Standard error ends together
    /// with a machine, too, whose end is then to be told there: so it is closed only if
    /// nothing happens for a while.
    fn next_event(&self, log: &Log) -> Result<Event, RecvError> {
        loop {
            match self.events.recv()? {
                Event::ErrorsEnded => {}
                event => return Ok(event),
            }
            match self.events.recv_timeout(SUDDEN_END_LIMIT) {
                Ok(event) => return Ok(event),
                Err(_) => log.release_standard_error(),
            }
        }
    }

    fn is_the_end(&self, exited: &Exited) -> bool {
        exited.container_id == self.init.container_id && exited.exec_id.is_empty()
    }

    /// What the agent reports of anything but the first container's end. Reports of
    /// containers and processes that are not there, or not any more, are passed over.
    fn hear(&mut self, news: &AgentEvent, log: &Log) {
        match news {
            AgentEvent::Exited(exited) => self.containers.exited(exited),
            AgentEvent::Oom(oom) => {
                if let Some(service) = self.containers.service(&oom.container_id) {
                    service.out_of_memory();
                    self.lines.out_of_memory.write(log, OUT_OF_MEMORY);
                }
            }
            AgentEvent::Ready(ready) if ready.container_id == self.init.container_id => {
                self.notify_ready(log);
            }
            _ => {}
        }
    }

    /// The container is over; the machine goes down in order, so that what the
    /// guest still holds of shared files reaches the host.
    fn exited(&self, exited: &Exited, log: &Log) -> u8 {
        self.service.close();
        let status = u8::try_from(exited.status).unwrap_or(u8::MAX);
        if status == KILLED {
            self.output.cap_drain_time();
        }
        let announced = [exited.stdout_bytes, exited.stderr_bytes];
        if !self.output.wait_for(announced, STALL_LIMIT) {
            let id = &self.init.container_id;
            let line = format!(
                "container {id}: the last of its output is lost: it did not come, or nobody took it"
            );
            log.write_if_file(Level::Warning, &line);
        }
        let asked = self.vm.agent.shut_down(SHUTDOWN_LIMIT);
        if asked.is_ok() {
            // The guest powers off once it sees that its answer has arrived.
            self.vm.agent.hang_up();
            self.await_machine();
        }
        // The machine's end is that of all its sockets.
        self.fd_relay.finish(SHUTDOWN_LIMIT);
        match self.vm.kill_escalation.reason() {
            // What the guest says of it is not to be believed.
            Some(reason) => self.lost(reason, log),
            None => status,
        }
    }

    fn await_machine(&self) {
        let deadline = Instant::now() + SHUTDOWN_LIMIT;
        let left = || deadline.saturating_duration_since(Instant::now());
        while let Ok(event) = self.events.recv_timeout(left()) {
            match event {
                Event::MachineEnded(_) => break,
                Event::Agent(AgentEvent::Exited(exited)) => self.service.exec_ended(&exited),
                _ => {}
            }
        }
    }

    /// A machine takes its file server with it: then the machine is the cause.
    fn first_cause(&self, how: &Ending) -> String {
        match end_of_machine(&self.events, how) {
            Some(reason @ (Exit::Panic | Exit::TripleFault | Exit::Reboot)) => reason.to_string(),
            Some(Exit::PowerOff | Exit::Stopped) | None => how.to_string(),
            Some(reason) => format!("{how}; {reason}"),
        }
    }

    fn lost(&self, cause: &str, log: &Log) -> u8 {
        self.service.close();
        self.vm.killers.kill();
        let console_tail = console_tail(&self.vm.console);
        let cause = self.vm.kill_escalation.reason().unwrap_or(cause);
        log.write(
            Level::Error,
            &format!(
                "container {}: {cause}{console_tail}",
                self.init.container_id
            ),
        );
        KILLED
    }

    /// Once: whoever says it again tells nothing new.
    fn notify_ready(&mut self, log: &Log) {
        let mut manager = self.notify.take().into_iter();
        if let Err(err) = manager.try_for_each(|manager| manager.notify_ready()) {
            let line = format!("tell the service manager that the container is ready: {err}");
            log.write_if_file(Level::Warning, &line);
        }
    }

    fn signal(&self, signal: i32) {
        if signal == nix::libc::SIGWINCH {
            return self.resize();
        }
        let sent = self.vm.agent.signal(&self.init, signal, false);
        // The process may just have ended; its exit is on the way.
        drop(sent);
    }

    fn resize(&self) {
        let Some((rows, columns)) = self.terminal.as_ref().and_then(Pty::size) else {
            return;
        };
        self.vm.agent.resize(&self.init, rows, columns).ok();
    }
}

/// What a VM for this container is made of.
fn vm_config<'a>(order: &'a CreateRequest, choice: &'a Choice) -> VmConfig<'a> {
    VmConfig {
        directory: order.root.join(&order.id),
        config: order.config.as_deref(),
        choice,
        kernel: order.plan.kernel.as_deref(),
        vcpus: order.plan.vcpus,
        mem_mib: order.plan.mem_mib,
        cgroup: order.record.cgroup.clone(),
        resources: order.plan.resources.clone(),
        shares: &order.plan.shares,
        user_of_shares: &order.id,
        resolv_conf: order.plan.resolv_conf.clone(),
    }
}

/// The first container, once it was created in the guest.
struct Created {
    containers: Arc<Containers>,
    service: Arc<ContainerService>,
    output: Output,
    fd_relay: FdRelay,
}

/// Creates the first container as every other is. Its shares are there since the VM was
/// booted.
fn create(
    order: &CreateRequest,
    vm: &Vm,
    terminal: Option<&Pty>,
    new_points: &[PathBuf],
    descriptors: Vec<OwnedFd>,
) -> Result<Created, Error> {
    let host = host_stdio(terminal)?;
    let access = GuestAccess {
        agent: vm.agent.clone(),
        streams: vm.streams.clone(),
        kill_escalation: vm.kill_escalation.clone(),
        console: vm.console.clone(),
    };
    let containers = Containers::new(access, Arc::clone(&vm.shares));
    let mut container = order.for_guest(new_points);
    vm.placement.apply_to(&mut container);
    let new = NewContainer {
        container,
        stdio: StdioRequest {
            terminal: terminal.map_or(GuestTerminal::None, Pty::in_guest),
            stdin: stdio::has_input(&host.stdin),
            further: descriptors.len(),
        },
        shares: &[],
        trees: Vec::new(),
    };
    let mut copied = None;
    let hold = |streams: GuestStreams, further: Vec<UnixStream>| {
        let output = stdio::copy(streams, host).map_err(step("copy standard streams"))?;
        let fd_relay =
            FdRelay::begin(descriptors, further).map_err(step("copy further descriptors"))?;
        copied = Some((output.clone(), fd_relay));
        Ok(Holder::Monitor {
            limits: Arc::clone(&vm.limits),
            network: Arc::clone(&vm.network),
            output,
        })
    };
    let added = containers.add(new, hold);
    let service = added.map_err(|refusal| Error::Agent(refusal.line()))?;
    let (output, fd_relay) = copied.ok_or_else(|| Error::Agent(NOT_HELD.to_owned()))?;
    Ok(Created {
        containers,
        service,
        output,
        fd_relay,
    })
}

const NOT_HELD: &str = "the container's streams were not taken";

/// Lines that a guest can cause again and again.
struct Lines {
    out_of_memory: Repeated,
    warnings: Repeated,
}

/// As many things may be worth a warning when a network is first looked at.
const WARNINGS_AT_ONCE: u32 = 64;

impl Default for Lines {
    fn default() -> Self {
        Self {
            out_of_memory: Repeated::default(),
            warnings: Repeated::with_burst(WARNINGS_AT_ONCE),
        }
    }
}

const OUT_OF_MEMORY: &str = "the container ran out of memory";

/// The agent's events, from a thread of their own: the next is asked for once there is
/// room for it. Whoever tells what is no event tells no more.
fn follow_agent(agent: &Agent, events: SyncSender<Event>) -> Result<(), Error> {
    let agent = agent.clone();
    let work = move || {
        let mut after = 0;
        loop {
            let told = match agent.next_event(after) {
                Ok(news) => {
                    after = news.number;
                    news.kind.map(Event::Agent)
                }
                Err(agent::Error::Lost) if agent.is_back() => None,
                // That is told by whoever noticed it.
                Err(agent::Error::Lost) => return,
                Err(err) => {
                    events.send(Event::AgentGone(err)).ok();
                    return;
                }
            };
            if told.is_some_and(|event| events.send(event).is_err()) {
                return;
            }
        }
    };
    thread::spawn("events", 128, work).map_err(Into::into)
}

/// A caller that dies before it has its answer wants no container.
fn watch_caller(caller: &Connection, events: SyncSender<Event>) -> Result<(), Error> {
    let caller = caller.duplicate().map_err(step("share a connection"))?;
    let work = move || {
        // It says nothing more: this ends with the connection.
        caller.receive::<serde_json::Value>().ok();
        events.send(Event::CallerGone).ok();
    };
    thread::spawn("caller", 64, work).map_err(Into::into)
}

/// Without a file for the log, the caller's standard error is where the reason of a
/// sudden end goes. It is closed once the container has closed its own: whoever reads
/// it waits for the end.
fn keep_errors(
    order: &CreateRequest,
    log: &Log,
    output: &Output,
    events: SyncSender<Event>,
) -> Result<(), Error> {
    if log.has_file() || order.console_socket.is_some() {
        return Ok(());
    }
    let kept = log.keep_standard_error();
    kept.map_err(step("keep standard error"))?;
    let output = output.clone();
    thread::spawn("errors", 32, move || {
        output.await_end_of_errors();
        events.send(Event::ErrorsEnded).ok();
    })
    .map_err(Into::into)
}
