//! The owner's part in the container's network: when it is brought up to date.
//!
//! ```text
//! start: subscribe -> update -> the program runs -> changes -> update ... -> leave
//! ```
//! Engines fill the namespace before or after `create`, but before `start`; what
//! they change later is followed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::agent::Agent;
use super::monitor::Event;
use super::thread;
use crate::cli::chain;
use crate::network::{CHANGES, Nics, Uplink};

/// See the module.
pub(crate) struct Network {
    uplink: Mutex<Uplink>,
    /// Where what goes wrong later is told.
    events: Sender<Event>,
    followed: AtomicBool,
}

impl Network {
    /// No interface is in the machine yet.
    pub(crate) fn new(nics: Box<dyn Nics>, agent: Agent, events: Sender<Event>) -> Arc<Self> {
        let tell = move |configuration: &_| {
            let told = agent.configure_network(configuration);
            told.map_err(|err| err.to_string())
        };
        Arc::new(Self {
            uplink: Mutex::new(Uplink::new(nics, Box::new(tell))),
            events,
            followed: AtomicBool::new(false),
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
        let warnings = self.uplink().update().map_err(|err| chain(&err))?;
        self.warn(warnings);
        if self.followed.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let network = Arc::clone(self);
        let work = move || {
            while changes.wait().is_ok() {
                let updated = network.uplink().update();
                network.warn(updated.unwrap_or_else(|err| vec![chain(&err)]));
            }
        };
        thread::spawn("network", 128, work).map_err(|err| chain(&err))
    }

    /// Gives the namespace back as it was: others may go on using it.
    pub(crate) fn leave(&self) {
        self.uplink().leave();
    }

    fn warn(&self, lines: Vec<String>) {
        for line in lines {
            // Without the owner's loop there is nobody to tell.
            self.events.send(Event::Warning(line)).ok();
        }
    }

    fn uplink(&self) -> MutexGuard<'_, Uplink> {
        self.uplink.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
