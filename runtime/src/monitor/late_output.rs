//! Connections of the processes that copy late output: what processes that an exec has
//! left behind still write (`relay`).
//!
//! Owns how many of them one container has, and their end with it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::owner::Connection;

/// Late outputs of one container that are copied at a time: each is a process on the
/// host and a thread here. That of further ones is dropped.
const MAX: usize = 64;

/// The connections of one container, by number.
#[derive(Debug, Default)]
pub(crate) struct LateOutput {
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    added: u64,
    connections: HashMap<u64, Connection>,
    /// The container has ended.
    closed: bool,
}

impl LateOutput {
    /// Takes one more; returns its number in the list.
    ///
    /// # Errors
    /// One line: the container has ended, or has as many as there may be.
    pub(crate) fn add(&self, connection: Connection) -> Result<u64, String> {
        let mut list = self.list();
        if list.closed {
            return Err("the container has ended".to_owned());
        }
        if list.connections.len() >= MAX {
            return Err(format!(
                "{MAX} outputs of processes left behind are copied already"
            ));
        }
        list.added += 1;
        let number = list.added;
        list.connections.insert(number, connection);
        Ok(number)
    }

    /// Forgets one that has ended.
    pub(crate) fn remove(&self, number: u64) {
        self.list().connections.remove(&number);
    }

    /// The container has ended, and so do all.
    pub(crate) fn close(&self) {
        let mut list = self.list();
        list.closed = true;
        for (_, connection) in list.connections.drain() {
            connection.hang_up();
        }
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::owner::Reply;

    #[test]
    fn they_are_few_and_end_with_the_container() {
        let late_output = LateOutput::default();
        let (near, far) = UnixStream::pair().unwrap();
        let near = Connection::from(near);
        let first = late_output.add(near.duplicate().unwrap()).unwrap();
        for _ in 1..MAX {
            late_output.add(near.duplicate().unwrap()).unwrap();
        }
        let full = late_output.add(near.duplicate().unwrap()).unwrap_err();
        assert!(full.contains("64"), "{full}");
        late_output.remove(first);
        late_output.add(near.duplicate().unwrap()).unwrap();
        late_output.close();
        Connection::from(far).receive::<Reply>().unwrap_err();
        late_output.add(near).unwrap_err();
    }
}
