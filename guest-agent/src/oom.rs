//! Hearing of kills for lack of memory.
//!
//! Owns nothing: the guest counts what it has told.

use std::sync::Arc;

use crate::{cgroup::Cgroup, guest::Guest};

/// Lets the guest look at the count whenever it changes, until the cgroup goes.
pub(crate) async fn watch(guest: Arc<Guest>, container_id: String, cgroup: Arc<Cgroup>) {
    // A kernel without the memory controller never kills for it.
    let Ok(watch) = cgroup.watch_memory() else {
        return;
    };
    let guest_is_alive = Arc::downgrade(&guest);
    drop(guest);
    while watch.changed().await.is_ok() {
        match guest_is_alive.upgrade() {
            Some(guest) if cgroup.path().exists() => guest.note_oom(&container_id),
            _ => return,
        }
    }
}
