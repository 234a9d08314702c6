//! Reporting of kills for lack of memory.
//!
//! Owns the number of kills that the host knows of, and the rate of the events: a
//! container can have itself killed all the time.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use caisson_protocol::{
    rate::RateLimit,
    server::agent::{Oom, event::Kind},
};

use crate::{cgroup::Cgroup, events::Events};

/// Compares the kills of one container with those that the host knows of.
#[derive(Debug)]
pub(crate) struct OomReporter {
    container_id: String,
    cgroup: Arc<Cgroup>,
    events: Arc<Events>,
    reported: Mutex<ReportedKills>,
}

#[derive(Debug, Default)]
struct ReportedKills {
    count: u64,
    rate: RateLimit,
}

impl OomReporter {
    /// A reporter for a container without kills so far.
    pub(crate) fn new(container_id: &str, cgroup: &Arc<Cgroup>, events: &Arc<Events>) -> Self {
        Self {
            container_id: container_id.to_owned(),
            cgroup: Arc::clone(cgroup),
            events: Arc::clone(events),
            reported: Mutex::default(),
        }
    }

    /// Queues an event if there were kills since the last call.
    pub(crate) fn report(&self) {
        let kills = self.cgroup.oom_kills();
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if kills <= reported.count {
            return;
        }
        reported.count = kills;
        if reported.rate.pass(Instant::now()).is_some() {
            self.events.push(Kind::Oom(Oom {
                container_id: self.container_id.clone(),
                ..Default::default()
            }));
        }
    }
}

/// Reports kills as they happen, until the cgroup is removed.
pub(crate) async fn watch(reporter: Arc<OomReporter>) {
    // A kernel without the memory controller never kills for it.
    let Ok(watch) = reporter.cgroup.watch_memory() else {
        return;
    };
    while watch.changed().await.is_ok() && reporter.cgroup.path().exists() {
        reporter.report();
    }
}
