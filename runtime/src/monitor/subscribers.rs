//! Connections that want to hear what happens to the container.
//!
//! Owns the list. One that doesn't read is dropped: whoever tells must not wait.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::owner::{Connection, Reply};

/// The connections of one container, by number.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    added: u64,
    connections: HashMap<u64, Connection>,
}

impl Subscribers {
    /// Adds `connection`, and returns its number in the list.
    pub(crate) fn add(&self, connection: Connection) -> u64 {
        let mut list = self.list();
        list.added += 1;
        let number = list.added;
        list.connections.insert(number, connection);
        number
    }

    /// Forgets a connection, which may have been dropped already.
    pub(crate) fn remove(&self, number: u64) {
        self.list().connections.remove(&number);
    }

    /// Sends `news` to all.
    pub(crate) fn publish(&self, news: &Reply) {
        let told = |connection: &Connection| connection.send_at_once(news).is_ok();
        self.list()
            .connections
            .retain(|_, connection| told(connection));
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn one_that_does_not_read_holds_nobody_up() {
        let subscribers = Subscribers::default();
        let (near, far) = UnixStream::pair().unwrap();
        subscribers.add(near.into());
        let (lazy, _unread) = UnixStream::pair().unwrap();
        subscribers.add(lazy.into());
        let far = Connection::from(far);
        // More than a socket holds.
        for _ in 0..100_000 {
            subscribers.publish(&Reply::OutOfMemory);
            assert_eq!(far.receive::<Reply>().unwrap().0, Reply::OutOfMemory);
        }
        assert_eq!(subscribers.list().connections.len(), 1);
    }
}
