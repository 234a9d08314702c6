//! Events for containerd, one after the other, over its restarts.
//!
//! Owns the queue and the connection. Order is kept: the next event is sent only
//! once the one before was taken, or given up.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim::events::ForwardRequest;
use protobuf::well_known_types::any::Any;
use protobuf::{Message, MessageFull};

use crate::log::Log;
use crate::wire::Client;

const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";
/// A containerd that restarts is back by then.
const GIVE_UP: Duration = Duration::from_secs(60);
const BETWEEN_TRIES: Duration = Duration::from_millis(500);

/// See the module. Clones share the queue.
#[derive(Debug, Clone)]
pub(crate) struct Publisher {
    namespace: String,
    queue: Sender<Envelope>,
    unsent: Arc<Unsent>,
}

/// How many events are on their way.
#[derive(Debug, Default)]
struct Unsent {
    count: Mutex<u64>,
    less: Condvar,
}

impl Publisher {
    /// Begins, with events for `address`; without one they are dropped: not
    /// every caller wants them.
    pub(crate) fn begin(
        namespace: &str,
        address: Option<String>,
        log: Arc<Log>,
    ) -> io::Result<Self> {
        let (queue, events) = mpsc::channel();
        let unsent = Arc::new(Unsent::default());
        let publisher = Self {
            namespace: namespace.to_owned(),
            queue,
            unsent: Arc::clone(&unsent),
        };
        let address = address.filter(|address| !address.is_empty());
        let thread = std::thread::Builder::new().name("events".into());
        let work = move || {
            Sending {
                address,
                client: None,
                log,
            }
            .all(&events, &unsent)
        };
        thread.stack_size(128 * 1024).spawn(work)?;
        Ok(publisher)
    }

    /// For what no client is to hear of.
    pub(crate) fn silent() -> Self {
        let (queue, _) = mpsc::channel();
        Self {
            namespace: String::new(),
            queue,
            unsent: Arc::default(),
        }
    }

    /// Queues an event of a topic such as `/tasks/exit`.
    pub(crate) fn publish<E: MessageFull>(&self, topic: &str, event: &E) {
        let any = Any {
            type_url: E::descriptor().full_name().to_owned(),
            value: event.write_to_bytes().unwrap_or_default(),
            ..Default::default()
        };
        let envelope = Envelope {
            timestamp: Some(SystemTime::now().into()).into(),
            namespace: self.namespace.clone(),
            topic: topic.to_owned(),
            event: Some(any).into(),
            ..Default::default()
        };
        self.unsent.change(1);
        if self.queue.send(envelope).is_err() {
            self.unsent.change(-1);
        }
    }

    /// Waits until all is sent, `limit` at most.
    pub(crate) fn flush(&self, limit: Duration) {
        let count = self
            .unsent
            .count
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        drop(
            self.unsent
                .less
                .wait_timeout_while(count, limit, |count| *count > 0),
        );
    }
}

impl Unsent {
    fn change(&self, by: i64) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count = count.saturating_add_signed(by);
        self.less.notify_all();
    }
}

/// The sending thread's own.
struct Sending {
    address: Option<String>,
    client: Option<Client>,
    log: Arc<Log>,
}

impl Sending {
    fn all(mut self, events: &Receiver<Envelope>, unsent: &Unsent) {
        // Nothing is ever sent here: it is a clock that ends with nobody.
        let (_never, clock) = mpsc::channel::<()>();
        for envelope in events {
            self.send(envelope, &clock);
            unsent.change(-1);
        }
    }

    fn send(&mut self, envelope: Envelope, clock: &Receiver<()>) {
        let topic = envelope.topic.clone();
        let request = ForwardRequest {
            envelope: Some(envelope).into(),
            ..Default::default()
        };
        let payload = request.write_to_bytes().unwrap_or_default();
        let deadline = Instant::now() + GIVE_UP;
        while let Err(err) = self.try_to_send(&payload) {
            self.client = None;
            if Instant::now() >= deadline {
                self.log.warn(&format!("event {topic} is lost: {err}"));
                return;
            }
            let waited = clock.recv_timeout(BETWEEN_TRIES);
            debug_assert_eq!(waited, Err(RecvTimeoutError::Timeout));
        }
    }

    fn try_to_send(&mut self, payload: &[u8]) -> io::Result<()> {
        let Some(address) = &self.address else {
            return Ok(());
        };
        let client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(address)?,
        };
        self.client
            .insert(client)
            .call(SERVICE, "Forward", payload.to_vec())
    }
}
