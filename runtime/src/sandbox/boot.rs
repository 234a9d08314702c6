//! The way up: from an order to a machine whose agent answers.
//!
//! Owns the order of the steps. On failure everything that was started is
//! ended again before the error is told.

use std::os::fd::OwnedFd;
use std::sync::mpsc::Sender;
use std::time::Duration;

use caisson_protocol::CONTROL_PORT;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::agent::Agent;
use super::error::{Error, step};
use super::monitor::Event;
use super::program::Killer;
use super::streams::Streams;
use super::tail::Tail;
use super::{Order, share};
use crate::installation::Installation;
use crate::log::Log;
use crate::machine::{self, Kind, Machine, Parts};

/// Emulation on a busy host is slow; on KVM a tenth of this is a fault.
const BOOT_LIMIT: Duration = Duration::from_secs(180);

/// A machine that runs, with the means to talk to it and to end it.
pub(crate) struct Sandbox {
    pub(crate) agent: Agent,
    pub(crate) streams: Streams,
    pub(crate) console: Tail,
    pub(crate) killers: Killers,
}

/// Ends every process of the sandbox, also when it is dropped half-made.
#[derive(Debug, Default)]
pub(crate) struct Killers(Vec<Killer>);

impl Killers {
    pub(crate) fn kill(&self) {
        self.0.iter().for_each(Killer::kill);
    }
}

impl Drop for Killers {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts the file server and the machine, and waits for the agent.
pub(crate) fn boot(order: &Order, log: &Log, events: &Sender<Event>) -> Result<Sandbox, Error> {
    let installation = Installation::find()?;
    let choice = machine::choose(order.plan.machine, &installation)?;
    log.debug(&choice.reason);
    let image = installation.guest_image()?;
    let folder = order.root.join(&order.id);

    let file_server = installation.helper("caisson-fs")?;
    let (server, front_end) = share::serve(file_server, &folder, &order.plan.shares)?;
    let mut killers = Killers(vec![server.killer()?]);
    watch(events, move || {
        let mut server = server;
        Event::FileServerEnded(server.wait())
    })?;

    let (channel, device_end) = channel()?;
    let (console, console_end) = std::io::pipe().map_err(step("make a pipe"))?;
    let parts = Parts {
        folder,
        vcpus: order.plan.vcpus,
        mem_mib: order.plan.mem_mib,
        memory: guest_memory(order.plan.mem_mib)?,
        image,
        fs: front_end,
        vsock_channel: device_end,
        console: console_end.into(),
    };
    let streams = Streams::default();
    let control = streams.expect_at(CONTROL_PORT);
    streams.serve(channel)?;
    let console = Tail::follow(console.into(), "console")?;
    let machine = Machine::start(&choice, &installation, parts)?;
    killers.0.extend(machine.killers()?);
    watch(events, move || Event::MachineEnded(machine.wait()))?;

    let limit = if choice.kind == Kind::Kvm {
        BOOT_LIMIT / 6
    } else {
        BOOT_LIMIT
    };
    // A machine that ends closes its channel, which wakes the waiting at once.
    let Some(control) = control.take(limit) else {
        return Err(Error::BootTimeout {
            limit_s: limit.as_secs(),
            last_words: said(&console),
        });
    };
    let agent = Agent::connect(control).map_err(Error::Agent)?;
    Ok(Sandbox {
        agent,
        streams,
        console,
        killers,
    })
}

/// The guest's last words, ready to be added to an error line.
pub(crate) fn said(console: &Tail) -> String {
    match console.last(3) {
        words if words.is_empty() => String::new(),
        words => format!("; the guest said: {words}"),
    }
}

fn watch(
    events: &Sender<Event>,
    wait: impl FnOnce() -> Event + Send + 'static,
) -> Result<(), Error> {
    let events = events.clone();
    let work = move || {
        events.send(wait()).ok();
    };
    std::thread::Builder::new()
        .name("watch".into())
        .stack_size(64 * 1024)
        .spawn(work)
        .map(drop)
        .map_err(step("start a thread"))
}

fn channel() -> Result<(OwnedFd, OwnedFd), Error> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
        .map_err(|errno| step("make a socket pair")(errno.into()))
}

/// Guest memory is one memfd, so that the file server can map it too.
fn guest_memory(mem_mib: u32) -> Result<OwnedFd, Error> {
    let failed = |errno: nix::errno::Errno| step("make the guest's memory")(errno.into());
    let memory = memfd_create(c"guest-memory", MFdFlags::MFD_CLOEXEC).map_err(failed)?;
    nix::unistd::ftruncate(&memory, i64::from(mem_mib) << 20).map_err(failed)?;
    Ok(memory)
}
