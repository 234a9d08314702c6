//! The containers of one VM.
//!
//! Owns the list of them, the creation of each in the guest, and what becomes of one that
//! has ended while the VM goes on. The first one's end is the VM's, which is `run`'s.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use caisson_protocol::client::agent::Exited;

use crate::container::stdio::GuestStreams;
use crate::log::error_line::chain;
use crate::monitor::container_service::{ContainerService, GuestAccess, Holder, ended, killed};
use crate::monitor::refusal::Refusal;
use crate::monitor::stdio_ports::{StdioPorts, StdioRequest};
use crate::owner::{GuestContainer, OfferedShare, Reply};
use crate::process::thread;
use crate::vm::shares::Shares;

/// The containers of one VM, the first included.
pub(crate) struct Containers {
    vm: GuestAccess,
    shares: Arc<Shares>,
    list: Mutex<HashMap<String, Arc<ContainerService>>>,
    ends: Mutex<Ends>,
    connections: Arc<()>,
}

/// A container that is to be created in the guest.
pub(crate) struct NewContainer<'a> {
    pub(crate) container: GuestContainer,
    pub(crate) stdio: StdioRequest,
    /// What is to be served for it, and the mounts of it, one for each.
    pub(crate) shares: &'a [OfferedShare],
    pub(crate) trees: Vec<OwnedFd>,
}

/// Those that have ended and are not put away yet: each once, one after the other.
#[derive(Default)]
struct Ends {
    waiting: VecDeque<(String, Reply)>,
    /// A thread is at it.
    at_work: bool,
}

impl Containers {
    /// None yet.
    pub(crate) fn new(vm: GuestAccess, shares: Arc<Shares>) -> Arc<Self> {
        Arc::new(Self {
            vm,
            shares,
            list: Mutex::default(),
            ends: Mutex::default(),
            connections: Arc::default(),
        })
    }

    /// Creates a container in the guest. `hold` gets its streams and the further
    /// descriptors, and returns the process that holds it.
    ///
    /// # Errors
    /// Nothing of it is left in the guest's list then.
    pub(crate) fn add(
        &self,
        mut new: NewContainer<'_>,
        hold: impl FnOnce(GuestStreams, Vec<UnixStream>) -> Result<Holder, Refusal>,
    ) -> Result<Arc<ContainerService>, Refusal> {
        let id = new.container.id.clone();
        // Held to the end: its own end must not be looked for before it is listed.
        let mut list = self.list();
        if list.contains_key(&id) {
            return Err(Refusal::Because(format!("{id} is there already")));
        }
        let created = self.share(&mut new).and_then(|()| self.create(&new));
        let held = created.and_then(|(streams, further)| hold(streams, further));
        let holder = held.inspect_err(|_| self.shares.remove(&self.shares.release(&id)))?;
        let service = ContainerService::new(&new.container, self.vm.clone(), holder);
        list.insert(id, Arc::clone(&service));
        Ok(service)
    }

    fn share(&self, new: &mut NewContainer<'_>) -> Result<(), Refusal> {
        if new.shares.is_empty() {
            return Ok(());
        }
        let trees = std::mem::take(&mut new.trees);
        let placement = self.shares.add(&new.container.id, new.shares, trees)?;
        placement.apply_to(&mut new.container);
        Ok(())
    }

    fn create(&self, new: &NewContainer<'_>) -> Result<(GuestStreams, Vec<UnixStream>), Refusal> {
        let ports = StdioPorts::reserve(&self.vm.streams, new.stdio)
            .map_err(|err| Refusal::Because(chain(&err)))?;
        self.vm.agent.create(&new.container, ports.stdio())?;
        ports.take().map_err(Refusal::Because)
    }

    /// One of them.
    pub(crate) fn service(&self, id: &str) -> Option<Arc<ContainerService>> {
        self.list().get(id).map(Arc::clone)
    }

    /// A process of one of them has ended.
    pub(crate) fn exited(self: &Arc<Self>, exited: &Exited) {
        let Some(service) = self.service(&exited.container_id) else {
            return;
        };
        if !exited.exec_id.is_empty() {
            return service.exec_ended(exited);
        }
        // A guest may say it as often as it likes.
        if service.close() {
            self.has_ended(exited.container_id.clone(), ended(exited));
        }
    }

    /// Has one put away, by the one thread that does that, while there is any.
    fn has_ended(self: &Arc<Self>, id: String, news: Reply) {
        let mut ends = self.ends();
        ends.waiting.push_back((id, news));
        if ends.at_work {
            return;
        }
        let members = Arc::clone(self);
        let work = move || {
            while let Some((id, news)) = members.next_end() {
                members.remove(&id, &news);
            }
        };
        // Without a thread, the next end sees to this one, too.
        ends.at_work = thread::spawn("member end", 256, work).is_ok();
    }

    fn next_end(&self) -> Option<(String, Reply)> {
        let mut ends = self.ends();
        let next = ends.waiting.pop_front();
        ends.at_work = next.is_some();
        next
    }

    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove(&self, id: &str, end: &Reply) {
        // The guest may be ending too, which does the same.
        let unused = self.shares.release(id);
        self.vm.agent.delete(id, &unused).ok();
        let Some(service) = self.list().remove(id) else {
            return;
        };
        self.shares.remove(&unused);
        service.mark_removed();
        service.all_ended();
        service.report_end(end);
    }

    /// Whoever stands for one of them is gone: it must not outlive that.
    pub(crate) fn abandon(&self, id: &str) {
        if let Some(service) = self.service(id) {
            // One that has ended meanwhile needs no signal.
            service.kill(nix::libc::SIGKILL, true).ok();
        }
    }

    /// All have ended with the VM.
    pub(crate) fn all_ended(&self) {
        for (_, service) in self.list().drain() {
            service.close();
            service.mark_removed();
            service.all_ended();
            service.report_end(&killed());
        }
    }

    /// What every connection to the machine's containers has a reference to.
    pub(crate) const fn connections(&self) -> &Arc<()> {
        &self.connections
    }

    fn list(&self) -> MutexGuard<'_, HashMap<String, Arc<ContainerService>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "containers_test.rs"]
mod tests;
