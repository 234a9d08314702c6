//! Events for containerd, one after the other, over its restarts.
//!
//! Owns the queue, its length and the connection. Order is kept: the next event is sent
//! only once the one before was accepted, or given up. An event belongs to a request of
//! containerd or to the end of a process, which bounds the queue. A container can run out
//! of memory without end: one event of that waits for each container.

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
/// A containerd that restarts accepts connections again by then.
const SEND_LIMIT: Duration = Duration::from_secs(60);
const BETWEEN_TRIES: Duration = Duration::from_millis(500);

/// The entrance of the queue. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Publisher {
    namespace: String,
    queue: Sender<Queued>,
    unsent: Arc<Unsent>,
}

/// An event in the queue.
#[derive(Debug)]
struct Queued {
    envelope: Envelope,
    /// Taken by an event of a kind of which one at a time may wait.
    _slot: Option<QueueSlot>,
}

/// Room in the queue for one event; taken as long as a clone is in the queue.
#[derive(Debug, Clone, Default)]
pub(crate) struct QueueSlot(Arc<()>);

impl QueueSlot {
    fn is_taken(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// The number of events that are not sent yet.
#[derive(Debug, Default)]
struct Unsent {
    count: Mutex<u64>,
    less: Condvar,
}

impl Publisher {
    /// Starts the sending of events to `address`; without one they are dropped: not every
    /// caller takes events.
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
            EventSender {
                address,
                client: None,
                log,
            }
            .send_all(&events, &unsent)
        };
        thread.stack_size(128 * 1024).spawn(work)?;
        Ok(publisher)
    }

    /// Drops every event.
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

    /// Queues an event unless `slot` is taken by an earlier one.
    pub(crate) fn publish_in_slot<E: MessageFull>(&self, topic: &str, event: &E, slot: &QueueSlot) {
        if !slot.is_taken() {
            self.enqueue(topic, event, Some(slot.clone()));
        }
    }

    fn enqueue<E: MessageFull>(&self, topic: &str, event: &E, slot: Option<QueueSlot>) {
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
            _slot: slot,
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

/// State of the sending thread.
struct EventSender {
    address: Option<String>,
    client: Option<Client>,
    log: Arc<Log>,
}

impl EventSender {
    fn send_all(mut self, events: &Receiver<Queued>, unsent: &Unsent) {
        // Nothing is ever sent on this channel: its receive is a delay.
        let (_never, clock) = mpsc::channel::<()>();
        for Queued { envelope, _slot } in events {
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
        let deadline = Instant::now() + SEND_LIMIT;
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
        let slots = [QueueSlot::default(), QueueSlot::default()];
        for _ in 0..100_000 {
            for slot in &slots {
                publisher.publish_in_slot("oom", &oom, slot);
            }
        }
        publisher.publish("exit", &exit);
        publisher.publish("exit", &exit);
        assert_eq!(*publisher.unsent.count.lock().unwrap(), 4);
        let topic = |queued: Queued| queued.envelope.topic;
        let topics: Vec<_> = events.try_iter().map(topic).collect();
        assert_eq!(topics, ["oom", "oom", "exit", "exit"]);
        // Those were sent, so there is room for another one.
        publisher.publish_in_slot("oom", &oom, &slots[0]);
        assert_eq!(events.try_iter().count(), 1);
    }
}
