//! The owner's part in the container's network: when it is brought up to date.
//!
//! ```text
//! start: subscribe -> update -> the program runs -> changes -> update ... -> leave
//! ```
//! Engines fill the namespace before or after `create`, but before `start`; what
//! they change later is followed.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use caisson_protocol::NAMES_PORT;

use crate::log::error_line::chain;
use crate::network::forward;
use crate::network::forward::Front;
use crate::network::{CHANGES, Nics, Uplink, names};
use crate::process::thread;
use crate::vm::agent::Agent;
use crate::vm::event::Event;
use crate::vm::vsock_ports::VsockPorts;

/// The network of one machine, between the host's namespace and the guest.
pub(crate) struct Network {
    uplink: Mutex<Uplink>,
    /// Where what goes wrong later is told.
    events: SyncSender<Event>,
    followed: AtomicBool,
    /// The container's resolv.conf on the host.
    resolv_conf: Option<PathBuf>,
    agent: Agent,
    streams: VsockPorts,
    /// Localhost of the namespace leads into the guest.
    fronted: AtomicBool,
    forwards: Arc<()>,
}

/// The agent connects a stream before it answers, so it is there or lost.
const STREAM_LIMIT: Duration = Duration::from_secs(10);

/// Connections to the guest's localhost at once: each holds six descriptors.
const MOST_FORWARDS: usize = 512;

/// Questions of the guest that are asked at once.
const MOST_QUESTIONS: usize = 64;

impl Network {
    /// No interface is in the machine yet.
    pub(crate) fn new(
        nics: Box<dyn Nics>,
        agent: Agent,
        streams: VsockPorts,
        events: SyncSender<Event>,
        resolv_conf: Option<PathBuf>,
    ) -> Arc<Self> {
        let guest = agent.clone();
        let configure = move |configuration: &_| {
            let told = guest.configure_network(configuration);
            told.map_err(|err| err.to_string())
        };
        Arc::new(Self {
            uplink: Mutex::new(Uplink::new(nics, Box::new(configure))),
            events,
            followed: AtomicBool::new(false),
            resolv_conf,
            agent,
            streams,
            fronted: AtomicBool::new(false),
            forwards: Arc::default(),
        })
    }

    /// Gives the machine what is in the namespace, and from then on what comes.
    ///
    /// # Errors
    /// One line: what can't be had, and why.
    pub(crate) fn begin(self: &Arc<Self>) -> Result<(), String> {
        // First: nothing that happens after it is missed.
        let changes = caisson_netlink::Events::subscribe(CHANGES);
        let changes = changes.map_err(|err| format!("watch the network namespace: {err}"))?;
        self.offer_names();
        let warnings = self.uplink().update().map_err(|err| chain(&err))?;
        self.warn(warnings);
        if self.followed.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        self.open_front();
        let network = Arc::clone(self);
        let work = move || {
            while changes.wait().is_ok() {
                let updated = network.uplink().update();
                network.warn(updated.unwrap_or_else(|err| vec![chain(&err)]));
                network.open_front();
            }
        };
        thread::spawn("network", 128, work).map_err(|err| chain(&err))
    }

    /// Makes the container's ports those of localhost here, once there is a network.
    fn open_front(self: &Arc<Self>) {
        if !self.uplink().is_connected() || self.fronted.swap(true, Ordering::Relaxed) {
            return;
        }
        let front = match Front::open() {
            Ok(front) => Arc::new(front),
            Err(err) => {
                let what = "ports of the container can't be reached as localhost of its network namespace on the host";
                self.warn(vec![format!("{what}: {err}")]);
                let mut uplink = self.uplink();
                uplink.relay_own_addresses();
                let relayed = uplink.update();
                return self.warn(relayed.unwrap_or_else(|err| vec![chain(&err)]));
            }
        };
        for number in 0..front.listeners.len() {
            let (network, front) = (Arc::clone(self), Arc::clone(&front));
            let work = move || {
                let listener = front.listeners.get(number);
                let connections = listener.into_iter().flat_map(TcpListener::incoming);
                thread::take_each(connections, |outside| network.pass_on(outside));
            };
            drop(thread::spawn("forward", 64, work));
        }
    }

    fn pass_on(self: &Arc<Self>, outside: TcpStream) {
        let network = Arc::clone(self);
        // One reference for each connection that is passed on.
        let turn = Arc::clone(&self.forwards);
        if Arc::strong_count(&turn) > MOST_FORWARDS {
            return;
        }
        let work = move || {
            let _turn = turn;
            // Whoever dialled sees that the connection ends.
            let Ok(address) = outside.local_addr() else {
                return;
            };
            let Ok(expected) = network.streams.expect() else {
                return;
            };
            let connected = network.agent.connect_local(address, expected.port);
            if let (Ok(()), Some(guest)) = (connected, expected.take(STREAM_LIMIT)) {
                forward::join(outside, guest).ok();
            }
        };
        drop(thread::spawn("forward", 96, work));
    }

    /// Has name servers on loopback asked for the guest, if the container was told
    /// of any.
    fn offer_names(&self) {
        let path = self.resolv_conf.as_deref();
        let servers = path.map(names::on_loopback).unwrap_or_default();
        if servers.is_empty() {
            return;
        }
        self.uplink().set_name_servers(servers.clone());
        let (servers, turns) = (Arc::new(servers), Arc::new(()));
        self.streams.offer(NAMES_PORT, move |stream| {
            // One reference for each question that is under way.
            if Arc::strong_count(&turns) > MOST_QUESTIONS {
                return;
            }
            let (servers, turn) = (Arc::clone(&servers), Arc::clone(&turns));
            let work = move || {
                // Whoever asked notices by itself that there is no answer.
                names::serve(stream, &servers).ok();
                drop(turn);
            };
            drop(thread::spawn("names", 64, work));
        });
    }

    /// Gives the namespace back as it was: others may go on using it.
    pub(crate) fn leave(&self) {
        self.uplink().leave();
    }

    fn warn(&self, lines: Vec<String>) {
        for line in lines {
            // Without the owner's loop there is nobody to tell; with one that is behind,
            // a line more is of no use.
            self.events.try_send(Event::Warning(line)).ok();
        }
    }

    fn uplink(&self) -> MutexGuard<'_, Uplink> {
        self.uplink.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
