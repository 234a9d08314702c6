//! Events for the host: numbered from 1 without gaps, kept until acknowledged.
//!
//! Owns the queue and its length: an exit stays until the host has acknowledged it, and
//! there is one for each process that the host has started. Kills for lack of memory a
//! container can cause without end, so at most one for each container waits.
//! Does not decide what is an event.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use caisson_protocol::server::agent::{Event, event::Kind};
use tokio::sync::Notify;

/// The queue of events. All methods are safe to call from any task.
#[derive(Debug, Default)]
pub(crate) struct Events {
    queue: Mutex<Queue>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    last_number: u64,
    waiting: VecDeque<Event>,
}

impl Events {
    /// Appends an event and wakes the tasks that wait for it. A kill for lack of memory is
    /// dropped while one of the same container waits.
    pub(crate) fn push(&self, kind: Kind) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |event: &Event| event.kind.as_ref() == Some(&kind);
        if matches!(kind, Kind::Oom(_)) && queue.waiting.iter().any(waits) {
            return;
        }
        queue.last_number += 1;
        let number = queue.last_number;
        queue.waiting.push_back(Event {
            number,
            kind: Some(kind),
            ..Default::default()
        });
        drop(queue);
        self.arrived.notify_waiters();
    }

    /// Drops events up to and including `after`, then waits for the next one.
    pub(crate) async fn next(&self, after: u64) -> Event {
        loop {
            // Registered before the look, so that no push falls in between.
            let mut arrived = std::pin::pin!(self.arrived.notified());
            arrived.as_mut().enable();
            if let Some(event) = self.first(after) {
                return event;
            }
            arrived.await;
        }
    }

    fn first(&self, after: u64) -> Option<Event> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        while queue
            .waiting
            .front()
            .is_some_and(|event| event.number <= after)
        {
            queue.waiting.pop_front();
        }
        queue.waiting.front().cloned()
    }
}

#[cfg(test)]
mod tests {
    use caisson_protocol::server::agent::{Exited, Oom};

    use super::*;

    fn oom(container_id: &str) -> Kind {
        Kind::Oom(Oom {
            container_id: container_id.to_owned(),
            ..Default::default()
        })
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_event_stays_until_the_host_asks_for_the_one_after_it() {
        let events = Events::default();
        events.push(oom("a"));
        events.push(oom("b"));
        assert_eq!(events.next(0).await.number, 1);
        assert_eq!(events.next(0).await.number, 1);
        assert_eq!(events.next(1).await.number, 2);
        assert_eq!(events.next(1).await.number, 2);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn of_a_flood_of_kills_one_waits_for_each_container_and_exits_all_do() {
        let events = Events::default();
        let exited = |exec_id: &str| {
            Kind::Exited(Exited {
                exec_id: exec_id.to_owned(),
                ..Default::default()
            })
        };
        for _ in 0..10_000 {
            events.push(oom("a"));
            events.push(oom("b"));
        }
        events.push(exited("1"));
        events.push(exited("1"));
        let mut after = 0;
        for expected in [oom("a"), oom("b"), exited("1"), exited("1")] {
            let event = events.next(after).await;
            assert_eq!(event.kind, Some(expected));
            after = event.number;
        }
        assert_eq!(after, 4);
        // That one was sent, so the next one is queued.
        events.push(oom("a"));
        assert_eq!(events.next(after).await.kind, Some(oom("a")));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_waiter_is_woken_by_the_event_it_waits_for() {
        let events = Events::default();
        let (event, ()) = tokio::join!(events.next(0), async {
            tokio::task::yield_now().await;
            events.push(oom("late"));
        });
        assert_eq!(event.kind, Some(oom("late")));
    }
}
