//! How many files the guest makes this process hold: one descriptor for each name
//! that it remembers, and one for each file that it has open.
//!
//! Owns the count, by process and by container, and who may have more. Does not own
//! the files, nor how the guest is made to forget.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::forgetting::HeldShare;

/// FUSE's number of the root of the served tree.
pub(super) const ROOT: u64 = 1;

/// What is held for the guest, and the limit of it.
pub(super) struct Names {
    limit: u64,
    refused: AtomicBool,
    held: Mutex<HeldNames>,
}

#[derive(Default)]
struct HeldNames {
    nodes: HashMap<u64, Node>,
    handles: HashMap<u64, Holder>,
    by_process: HashMap<u32, u64>,
    by_container: HashMap<u64, u64>,
}

struct Node {
    /// How often the guest was handed it, less what it has forgotten.
    references: u64,
    holder: Holder,
}

/// Whose a descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Holder {
    /// The guest's number of the thread that asked for it.
    process: u32,
    /// The node below the root that it lies under: all shares of one container.
    container: u64,
}

impl Names {
    /// None held of at most `limit`.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            refused: AtomicBool::new(false),
            held: Mutex::default(),
        }
    }

    /// The most descriptors that the guest can have.
    pub(super) const fn limit(&self) -> u64 {
        self.limit
    }

    /// How many it has.
    pub(super) fn used(&self) -> u64 {
        self.lock().used()
    }

    /// Whether `process` may have two more in the directory `parent`: as many as a new
    /// file takes. One process can have half of all, one container three quarters, so
    /// that the others go on: the last quarter is for containers that have little.
    pub(super) fn admits(&self, process: u32, parent: u64) -> bool {
        const WANTED: u64 = 2;
        let held = self.lock();
        let of_process = count(&held.by_process, &process);
        let of_container = count(&held.by_container, &held.container_of(parent, 0));
        let used = held.used() + WANTED;
        used <= self.limit
            && of_process + WANTED <= self.limit / 2
            && (used <= self.limit / 4 * 3 || of_container + WANTED <= self.limit / 8)
    }

    /// How much `process` holds.
    pub(super) fn share_of(&self, process: u32) -> HeldShare {
        match count(&self.lock().by_process, &process) {
            held if held < self.limit / 8 => HeldShare::Little,
            _ => HeldShare::Much,
        }
    }

    /// Whether the guest has `node` already.
    pub(super) fn knows(&self, node: u64) -> bool {
        self.lock().nodes.contains_key(&node)
    }

    /// A request was refused something new.
    pub(super) fn note_refusal(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    /// Whether one was since the last question.
    pub(super) fn take_refusal(&self) -> bool {
        self.refused.swap(false, Ordering::Relaxed)
    }

    /// The guest was handed `node` in the directory `parent`.
    pub(super) fn note_entry(&self, process: u32, parent: u64, node: u64) {
        let mut held = self.lock();
        if let Some(known) = held.nodes.get_mut(&node) {
            known.references += 1;
            return;
        }
        let container = held.container_of(parent, node);
        let holder = Holder { process, container };
        held.add(holder);
        held.nodes.insert(
            node,
            Node {
                references: 1,
                holder,
            },
        );
    }

    /// The guest has forgotten that it was handed `node` so many `times`.
    pub(super) fn forgotten(&self, node: u64, times: u64) {
        let mut held = self.lock();
        let Some(known) = held.nodes.get_mut(&node) else {
            return;
        };
        known.references = known.references.saturating_sub(times);
        if known.references == 0 {
            let holder = known.holder;
            held.nodes.remove(&node);
            held.remove(holder);
        }
    }

    /// The file `node` was opened as `handle`.
    pub(super) fn opened(&self, process: u32, node: u64, handle: u64) {
        let mut held = self.lock();
        let container = held.container_of(node, node);
        let holder = Holder { process, container };
        if held.handles.insert(handle, holder).is_none() {
            held.add(holder);
        }
    }

    /// `handle` was closed.
    pub(super) fn closed(&self, handle: u64) {
        let mut held = self.lock();
        if let Some(holder) = held.handles.remove(&handle) {
            held.remove(holder);
        }
    }

    /// Everything was closed and forgotten.
    pub(super) fn clear(&self) {
        *self.lock() = HeldNames::default();
    }

    fn lock(&self) -> MutexGuard<'_, HeldNames> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeldNames {
    fn used(&self) -> u64 {
        (self.nodes.len() + self.handles.len()) as u64
    }

    /// Where a node in `parent` belongs; `node` itself if it is right below the root.
    fn container_of(&self, parent: u64, node: u64) -> u64 {
        match self.nodes.get(&parent) {
            Some(known) => known.holder.container,
            None => node,
        }
    }

    fn add(&mut self, holder: Holder) {
        *self.by_process.entry(holder.process).or_default() += 1;
        *self.by_container.entry(holder.container).or_default() += 1;
    }

    fn remove(&mut self, holder: Holder) {
        take_one(&mut self.by_process, &holder.process);
        take_one(&mut self.by_container, &holder.container);
    }
}

fn count<K: Hash + Eq>(counts: &HashMap<K, u64>, key: &K) -> u64 {
    counts.get(key).copied().unwrap_or_default()
}

/// Keys that count nothing go, so the map is never larger than what is counted.
fn take_one<K: Hash + Eq>(counts: &mut HashMap<K, u64>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Names, ROOT};

    /// Containers 2 and 3 below the root, each with a process of its number that
    /// was handed names 20.. and 30..
    fn two_containers(limit: u64) -> Names {
        let names = Names::new(limit);
        names.note_entry(1, ROOT, 2);
        names.note_entry(1, ROOT, 3);
        names
    }

    fn fill(names: &Names, process: u32, container: u64, count: u64) -> u64 {
        let first = 1_000 + 1_000 * u64::from(process);
        let admitted = (0..count).take_while(|number| {
            let admitted = names.admits(process, container);
            if admitted {
                names.note_entry(process, container, first + number);
            }
            admitted
        });
        admitted.count() as u64
    }

    #[test]
    fn what_is_told_twice_is_forgotten_when_both_are() {
        let names = two_containers(100);
        names.note_entry(7, 2, 20);
        names.note_entry(8, 2, 20);
        assert_eq!(names.used(), 3);
        names.forgotten(20, 1);
        assert_eq!(names.used(), 3);
        names.forgotten(20, u64::MAX);
        names.forgotten(20, 1);
        assert_eq!(names.used(), 2);
    }

    #[test]
    fn one_process_has_half_at_most() {
        let names = two_containers(100);
        let had = fill(&names, 7, 2, 100);
        assert!((48..=50).contains(&had), "{had}");
        assert!(names.admits(8, 2));
    }

    #[test]
    fn the_last_quarter_is_for_other_containers() {
        let names = two_containers(100);
        fill(&names, 7, 2, 100);
        fill(&names, 8, 2, 100);
        assert!(!names.admits(9, 2));
        assert!(names.admits(10, 3));
        assert_eq!(fill(&names, 10, 3, 100), 10);
    }

    #[test]
    fn closing_gives_back() {
        let names = two_containers(100);
        names.opened(7, 2, 1);
        names.opened(7, 2, 2);
        names.closed(1);
        names.closed(1);
        assert_eq!(names.used(), 3);
        names.clear();
        assert_eq!(names.used(), 0);
    }
}
