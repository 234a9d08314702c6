//! The way up: from a configuration to a VM whose agent answers.
//!
//! Owns the order of the steps. On failure everything that was started is
//! ended again before the error is told.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use caisson_protocol::CONTROL_PORT;
use caisson_vmm::control::Exit;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use oci_spec::runtime::LinuxResources;

use crate::cgroup::{Allowance, Group};
use crate::config::installation::{GuestImage, Installation};
use crate::host::guest_names;
use crate::log::Log;
use crate::oci::plan::Share;
use crate::process::log_tail::LogTail;
use crate::process::program::{Ending, ProcessKiller};
use crate::process::step;
use crate::process::thread;
use crate::vm::agent::Agent;
use crate::vm::choice::{Choice, Kind};
use crate::vm::error::Error;
use crate::vm::event::Event;
use crate::vm::fs_daemon::{Server, Serving};
use crate::vm::hypervisor::Machine;
use crate::vm::hypervisor_parts::Parts;
use crate::vm::kill_escalation::KillEscalation;
use crate::vm::limits::Limits;
use crate::vm::network::Network;
use crate::vm::served_shares::Placement;
use crate::vm::shares::Shares;
use crate::vm::steal_aware_deadline::StealAwareDeadline;
use crate::vm::vsock_ports::{Token, VsockPorts};
use crate::vm::{fs_daemon, guest_memory, panic_log};

/// What a VM is made of.
#[derive(Debug)]
pub(crate) struct VmConfig<'a> {
    /// Where its helpers' sockets are.
    pub(crate) directory: PathBuf,
    /// config.toml, where it is not the usual one.
    pub(crate) config: Option<&'a Path>,
    pub(crate) choice: &'a Choice,
    pub(crate) kernel: Option<&'a Path>,
    pub(crate) vcpus: u8,
    pub(crate) mem_mib: u32,
    /// The cgroup of its processes, and what the host limits them to.
    pub(crate) cgroup: Option<Group>,
    pub(crate) resources: LinuxResources,
    /// The shares that it begins with, and the container that has them.
    pub(crate) shares: &'a [Share],
    pub(crate) user_of_shares: &'a str,
    /// resolv.conf of the host's side.
    pub(crate) resolv_conf: Option<PathBuf>,
}

/// Both ends of the queue of events.
#[derive(Debug)]
pub(crate) struct EventQueue {
    pub(crate) sender: SyncSender<Event>,
    pub(crate) receiver: Receiver<Event>,
}

/// A VM that runs, with the means to talk to it and to end it.
pub(crate) struct Vm {
    pub(crate) agent: Agent,
    pub(crate) streams: VsockPorts,
    pub(crate) console: LogTail,
    pub(crate) killers: Helpers,
    pub(crate) kill_escalation: KillEscalation,
    pub(crate) limits: Arc<Limits>,
    pub(crate) network: Arc<Network>,
    pub(crate) shares: Arc<Shares>,
    /// Where the first shares have come to be.
    pub(crate) placement: Placement,
}

/// Ends every process of the sandbox, also when it is dropped half-made.
#[derive(Debug, Default)]
pub(crate) struct Helpers(Vec<Arc<ProcessKiller>>);

impl Helpers {
    pub(crate) fn kill(&self) {
        self.0.iter().for_each(|process| process.kill());
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.0.iter().map(|process| process.pid()).collect()
    }

    fn add(&mut self, killers: impl IntoIterator<Item = ProcessKiller>) {
        self.0.extend(killers.into_iter().map(Arc::new));
    }
}

impl Drop for Helpers {
    /// What they hold, such as sockets in the state directory, is free after this.
    fn drop(&mut self) {
        self.kill();
        self.0.iter().for_each(|process| process.await_end());
    }
}

/// Starts the file server and the hypervisor, and waits for the agent.
///
/// # Errors
/// On any, every process that was started has ended.
pub(crate) fn boot(config: VmConfig<'_>, log: &Log, events: &EventQueue) -> Result<Vm, Error> {
    let installation = Installation::find(config.config)?;
    log.debug(&config.choice.reason);
    let limits = limits_of(&config);
    limits.set(log)?;
    let image = image_for(&config, &installation)?;
    let sender = &events.sender;

    let server = serve_files(&config, &installation, sender)?;
    let mut killers = Helpers::default();
    killers.add([server.process.killer()?]);
    let file_server = server.process.process()?;
    watch(sender, move || {
        Event::FileServerEnded(server.process.wait())
    })?;

    let (channel, device_end) = channel()?;
    let (console, console_end) = std::io::pipe().map_err(step("make a pipe"))?;
    let memory = guest_memory::make(config.mem_mib)?;
    let memory_of_dead = File::from(memory.try_clone().map_err(step("share a file"))?);
    let parts = Parts {
        directory: config.directory,
        vcpus: config.vcpus,
        mem_mib: config.mem_mib,
        memory,
        image,
        fs: server.front_end,
        vsock_channel: device_end,
        console: console_end.into(),
        vhost_net: installation.config.vhost_net,
    };
    let token = Token::random().map_err(step("make a token"))?;
    let streams = VsockPorts::new(token);
    let arrival = sender.clone();
    streams.serve(channel, move |stream| {
        arrival.send(Event::AgentConnected(stream)).ok();
    })?;
    let console = LogTail::follow(console.into(), "console")?;
    let (machine, nics) = Machine::start(config.choice, &installation, parts)?;
    killers.add(machine.killers()?);
    let words = console.clone();
    watch(sender, move || end_of(machine, &words, &memory_of_dead))?;

    let limit = boot_limit(&config.choice.kind);
    let deadline = StealAwareDeadline::begin(limit, limit * OVERLOADED, killers.pids());
    let control =
        await_agent(&events.receiver, &deadline).map_err(|failed| failed.after(&console))?;
    let agent = connect(control, token, &streams, sender)?;
    limits.hold_to_quota(log);
    Ok(Vm {
        kill_escalation: KillEscalation::new(killers.0.clone()),
        shares: Arc::new(Shares::new(file_server, server.served)),
        placement: server.placement,
        network: Network::new(
            nics,
            agent.clone(),
            streams.clone(),
            sender.clone(),
            config.resolv_conf,
        ),
        agent,
        streams,
        console,
        killers,
        limits: Arc::new(limits),
    })
}

fn limits_of(config: &VmConfig<'_>) -> Limits {
    let allowance = Allowance {
        mem_mib: config.mem_mib,
        vcpus: config.vcpus,
        emulated: config.choice.kind != Kind::Kvm,
    };
    Limits::new(config.cgroup.clone(), allowance, config.resources.clone())
}

/// Starts the file server, whose warnings are the container's.
fn serve_files(
    config: &VmConfig<'_>,
    installation: &Installation,
    events: &SyncSender<Event>,
) -> Result<Server, Error> {
    let file_server = installation.helper("caisson-fs")?;
    let serving = Serving {
        cache: installation.config.file_cache,
        max_names: guest_names::limit(config.mem_mib),
    };
    let server = fs_daemon::serve(
        file_server,
        &config.directory,
        config.user_of_shares,
        config.shares,
        serving,
    )?;
    let warnings = events.clone();
    server.process.words.pass_on(move |line| {
        warnings.send(Event::Warning(line)).ok();
    });
    Ok(server)
}

/// Speaks to the agent over `control`, and over what it opens once that is lost.
fn connect(
    control: UnixStream,
    token: Token,
    streams: &VsockPorts,
    events: &SyncSender<Event>,
) -> Result<Agent, Error> {
    let agent = Agent::connect(control, token, events.clone());
    let agent = agent.map_err(|err| Error::Agent(err.to_string()))?;
    let known = agent.clone();
    streams.offer(CONTROL_PORT, move |stream| known.reconnect(stream));
    Ok(agent)
}

fn image_for(config: &VmConfig<'_>, installation: &Installation) -> Result<GuestImage, Error> {
    let mut image = installation.guest_image()?;
    if let Some(kernel) = config.kernel {
        image.kernel = kernel.to_owned();
    }
    Ok(image)
}

/// A machine on a host where fifty are started at once takes this many times its limit at
/// most.
const OVERLOADED: u32 = 10;

/// Emulation is slow; on KVM a tenth of this is a fault. Of the machine's own time.
const fn boot_limit(kind: &Kind) -> Duration {
    match kind {
        Kind::Kvm => Duration::from_secs(60),
        Kind::Tcg { .. } => Duration::from_secs(180),
    }
}

/// Why there is no agent.
enum NoAgent {
    /// Not in time.
    Late(Duration),
    /// Something has ended first.
    Ended(String),
    /// The caller has gone away, or a signal asks for the end.
    GivenUp,
}

impl NoAgent {
    fn after(self, console: &LogTail) -> Error {
        match self {
            Self::Late(limit) => Error::BootTimeout {
                limit_s: limit.as_secs(),
                last_words: console_tail(console),
            },
            Self::Ended(cause) => Error::Boot {
                cause: format!("{cause}{}", console_tail(console)),
            },
            Self::GivenUp => Error::GivenUp,
        }
    }
}

fn await_agent(
    events: &Receiver<Event>,
    deadline: &StealAwareDeadline,
) -> Result<UnixStream, NoAgent> {
    while let Some(left) = deadline.left() {
        match events.recv_timeout(left) {
            Ok(Event::AgentConnected(stream)) => return Ok(stream),
            Ok(Event::MachineEnded(reason)) => return Err(NoAgent::Ended(reason.to_string())),
            Ok(Event::FileServerEnded(how)) => {
                let reason = end_of_machine(events, &how).map(|reason| format!("{reason}; "));
                return Err(NoAgent::Ended(format!(
                    "{}{how}",
                    reason.unwrap_or_default()
                )));
            }
            Ok(Event::CallerGone) => return Err(NoAgent::GivenUp),
            Ok(Event::Signal(signal)) if ends_a_process(signal) => return Err(NoAgent::GivenUp),
            Ok(_) => {}
            // Time may be left by then.
            Err(_) => {}
        }
    }
    Err(NoAgent::Late(deadline.limit()))
}

/// A machine tells its end when its last words have been read.
const TOLD_LIMIT: Duration = Duration::from_secs(3);
/// One that lost its file server may live on.
const LOST_LIMIT: Duration = Duration::from_millis(500);

/// How the machine ended, if it took its file server with it, which then ended in
/// peace, or went together with it.
pub(crate) fn end_of_machine(events: &Receiver<Event>, file_server: &Ending) -> Option<Exit> {
    let limit = match file_server.code() {
        Some(0) => TOLD_LIMIT,
        _ => LOST_LIMIT,
    };
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match events.recv_timeout(left) {
            Ok(Event::MachineEnded(reason)) => return Some(reason),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

const fn ends_a_process(signal: i32) -> bool {
    use nix::libc::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    matches!(signal, SIGHUP | SIGINT | SIGQUIT | SIGTERM)
}

/// Waits for the machine's end and what is to be heard of its guest's.
fn end_of(machine: Machine, words: &LogTail, memory: &File) -> Event {
    let reason = machine.wait();
    words.await_end();
    if reason == Exit::Panic {
        words.add_alarm(|| panic_log::find(memory));
    }
    Event::MachineEnded(reason)
}

/// The guest's last words, ready to be added to an error line.
pub(crate) fn console_tail(console: &LogTail) -> String {
    match console.last(3) {
        words if words.is_empty() => String::new(),
        words => format!("; the guest said: {words}"),
    }
}

fn watch(
    events: &SyncSender<Event>,
    wait: impl FnOnce() -> Event + Send + 'static,
) -> Result<(), Error> {
    let events = events.clone();
    let work = move || {
        events.send(wait()).ok();
    };
    thread::spawn("watch", 64, work).map_err(Into::into)
}

fn channel() -> Result<(OwnedFd, OwnedFd), Error> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
        .map_err(|errno| step("make a socket pair")(errno.into()))
        .map_err(Into::into)
}
