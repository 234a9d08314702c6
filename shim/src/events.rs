//! Events for containerd, one after the other, over its restarts.
//!
//! Owns the queue, its length and the connection. Order is kept: the next event is sent
//! only once the one before was taken, or given up. An event belongs to a request of
//! containerd or to the end of a process, which bounds the queue, except that a container
//! may run out of memory all the time: of that, one for each container waits.

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
    queue: Sender<Queued>,
    unsent: Arc<Unsent>,
}

/// An event on its way.
#[derive(Debug)]
struct Queued {
    envelope: Envelope,
    /// Of those of which one at a time may wait.
    _place: Option<Place>,
}

/// A place in the queue for one event, which is taken as long as it has a clone there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place(Arc<()>);

impl Place {
    fn is_taken(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
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
        self.enqueue(topic, event, None);
    }

    /// Queues an event unless the one that was queued for the same place before still
    /// waits.
    pub(crate) fn publish_in_place<E: MessageFull>(&self, topic: &str, event: &E, place: &Place) {
        if !place.is_taken() {
            self.enqueue(topic, event, Some(place.clone()));
        }
    }

    fn enqueue<E: MessageFull>(&self, topic: &str, event: &E, place: Option<Place>) {
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
        let queued = Queued {
            envelope,
            _place: place,
        };
        if self.queue.send(queued).is_err() {
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
    fn all(mut self, events: &Receiver<Queued>, unsent: &Unsent) {
        // Nothing is ever sent here: it is a clock that ends with nobody.
        let (_never, clock) = mpsc::channel::<()>();
        for Queued { envelope, _place } in events {
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

#[cfg(test)]
mod tests {
    use containerd_shim_protos::events::task::{TaskExit, TaskOOM};

    use super::*;

    #[test]
    fn an_exit_waits_behind_one_kill_for_lack_of_memory_and_not_behind_a_flood() {
        let (queue, events) = mpsc::channel();
        let publisher = Publisher {
            namespace: String::new(),
            queue,
            unsent: Arc::default(),
        };
        let (oom, exit) = (TaskOOM::default(), TaskExit::default());
        let places = [Place::default(), Place::default()];
        for _ in 0..100_000 {
            for place in &places {
                publisher.publish_in_place("oom", &oom, place);
            }
        }
        publisher.publish("exit", &exit);
        publisher.publish("exit", &exit);
        assert_eq!(*publisher.unsent.count.lock().unwrap(), 4);
        let topic = |queued: Queued| queued.envelope.topic;
        let topics: Vec<_> = events.try_iter().map(topic).collect();
        assert_eq!(topics, ["oom", "oom", "exit", "exit"]);
        // Those are sent: there is room for another.
        publisher.publish_in_place("oom", &oom, &places[0]);
        assert_eq!(events.try_iter().count(), 1);
    }
}
