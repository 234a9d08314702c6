//! Further containers in a machine, each with a process of its own on the host
//! that asked for it and stands for it.
//!
//! Owns the list of them. Such a process ends its container by hanging up, and is
//! told of its end once nothing of it is left in the machine.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use caisson_jail::detached::Kind;
use caisson_jail::later::{self, Piece};
use caisson_protocol::client::agent::Exited;

use super::agent::{Agent, ProcessName};
use super::insistence::Insistence;
use super::refusal::Refusal;
use super::requests::{Desk, Ports, ended, killed};
use super::served::{Cut, Placement, Served};
use super::streams::Streams;
use super::thread;
use crate::owner::{Connection, JoinRequest, Reply};
use crate::pidfd::Pidfd;

/// See the module.
pub(crate) struct Members {
    agent: Agent,
    streams: Streams,
    file_server: Pidfd,
    served: Mutex<Served>,
    insistence: Insistence,
    list: Mutex<HashMap<String, Member>>,
    ends: Mutex<Ends>,
    connections: Arc<()>,
}

/// Those that have ended and are not put away yet: each once, one after the other.
#[derive(Default)]
struct Ends {
    waiting: VecDeque<(String, Reply)>,
    /// A thread is at it.
    at_work: bool,
}

struct Member {
    desk: Arc<Desk>,
    connection: Connection,
}

impl Members {
    /// None yet.
    pub(crate) fn new(
        (agent, streams): (Agent, Streams),
        (file_server, served): (Pidfd, Served),
        insistence: Insistence,
    ) -> Arc<Self> {
        Arc::new(Self {
            agent,
            streams,
            file_server,
            served: Mutex::new(served),
            insistence,
            list: Mutex::default(),
            ends: Mutex::default(),
            connections: Arc::default(),
        })
    }

    /// Makes a container for whoever is behind `connection`.
    pub(crate) fn join(
        &self,
        connection: &Connection,
        wish: &JoinRequest,
        descriptors: Vec<OwnedFd>,
    ) -> Result<ProcessName, Refusal> {
        let failed = |err: &dyn std::fmt::Display| Refusal::Because(err.to_string());
        let mut descriptors = descriptors.into_iter();
        let listener = descriptors.next().ok_or("a socket is missing")?;
        let trees: Vec<_> = descriptors.collect();
        if trees.len() != wish.shares.len() {
            return Err("a share is missing".into());
        }
        // Held to the end: its own end must not be looked for before it is listed.
        let mut list = self.list();
        if list.contains_key(&wish.container.id) {
            return Err(Refusal::Because(format!(
                "{} is there already",
                wish.container.id
            )));
        }
        let streams = self
            .share(wish, trees)
            .and_then(|placement| self.create(wish, &placement));
        let (streams, terminal) = match streams {
            Ok(streams) => (streams, connection.duplicate()),
            Err(refusal) => {
                let unused = self.served().release(&wish.container.id);
                self.unshare(&unused);
                return Err(refusal);
            }
        };
        let listed = terminal.map_err(|err| failed(&err))?;
        let desk = Desk::of_member(self, wish, connection.peer_pid().unwrap_or_default());
        let all = [&streams.stdin, &streams.stdout, &streams.stderr];
        let numbers: Vec<_> = all.into_iter().flatten().map(AsRawFd::as_raw_fd).collect();
        let member = Member {
            desk: Arc::clone(&desk),
            connection: listed,
        };
        list.insert(wish.container.id.clone(), member);
        drop(list);
        let told = desk
            .open(UnixListener::from(listener))
            .map_err(|err| failed(&err))
            .and_then(|()| {
                let sent = connection.send(&Reply::Started, &numbers);
                sent.map_err(|err| failed(&err))
            });
        if told.is_err() {
            self.abandon(&wish.container.id);
        }
        told.map(|()| ProcessName::init_of(&wish.container.id))
    }

    /// Has served what is not yet.
    fn share(&self, wish: &JoinRequest, trees: Vec<OwnedFd>) -> Result<Placement, Refusal> {
        let failed = |err: &dyn std::fmt::Display| Refusal::Because(format!("share: {err}"));
        let cuts = wish.shares.iter().cloned().zip(trees);
        let cuts = cuts.map(|(share, tree)| Cut { share, tree }).collect();
        let mut served = self.served();
        let placement = served.place(&wish.container.id, cuts);
        let new = served.trees(&placement.new).map_err(|err| failed(&err))?;
        let pieces = new.into_iter().map(|Cut { share, tree }| Piece {
            path: share.path,
            kind: if share.is_dir {
                Kind::Folder
            } else {
                Kind::File
            },
            tree,
        });
        let pieces: Vec<_> = pieces.collect();
        let opened = served.trees(&placement.opened);
        let opened = opened.map_err(|err| failed(&err))?;
        let added = in_a_thread(|| {
            later::add(&self.file_server, &pieces)?;
            let trees: Vec<_> = opened.iter().map(|cut| cut.tree.as_fd()).collect();
            later::make_writable(&self.file_server, &trees)
        });
        added.map_err(|err| failed(&err))?;
        Ok(placement)
    }

    /// Takes away what [`Served::release`] has named.
    fn unshare(&self, paths: &[PathBuf]) {
        // What can't be taken away goes with the machine.
        in_a_thread(|| later::remove(&self.file_server, paths)).ok();
        self.served().forget(paths);
    }

    fn served(&self) -> MutexGuard<'_, Served> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn create(
        &self,
        wish: &JoinRequest,
        placement: &Placement,
    ) -> Result<crate::stdio::GuestStreams, Refusal> {
        let ports = Ports::reserve(&self.streams, (wish.terminal, wish.stdin), 0)?;
        let mut container = wish.container.clone();
        placement.apply_to(&mut container);
        self.agent.create(&container, ports.stdio())?;
        let (streams, _) = ports.take().map_err(Refusal::Because)?;
        Ok(streams)
    }

    /// The desk of one of them.
    pub(crate) fn desk(&self, id: &str) -> Option<Arc<Desk>> {
        self.list().get(id).map(|member| Arc::clone(&member.desk))
    }

    /// A process of one of them has ended.
    pub(crate) fn exited(self: &Arc<Self>, exited: &Exited) {
        let Some(desk) = self.desk(&exited.container_id) else {
            return;
        };
        if !exited.exec_id.is_empty() {
            return desk.exec_ended(exited);
        }
        // A guest may say it as often as it likes.
        if desk.close() {
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
                members.put_away(&id, &news);
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

    fn put_away(&self, id: &str, news: &Reply) {
        // The guest may be ending too, which does the same.
        let unused = self.served().release(id);
        self.agent.delete(id, &unused).ok();
        let Some(member) = self.list().remove(id) else {
            return;
        };
        self.unshare(&unused);
        member.desk.is_put_away();
        member.desk.all_ended();
        member.connection.send(news, &[]).ok();
    }

    /// Whoever stands for one of them is gone: it must not outlive that.
    pub(crate) fn abandon(&self, id: &str) {
        if let Some(desk) = self.desk(id) {
            // One that has ended meanwhile needs no signal.
            desk.kill(nix::libc::SIGKILL, true).ok();
        }
    }

    /// All have ended with the machine.
    pub(crate) fn all_ended(&self) {
        for (_, member) in self.list().drain() {
            member.desk.close();
            member.desk.is_put_away();
            member.desk.all_ended();
            member.connection.send(&killed(), &[]).ok();
        }
    }

    pub(crate) const fn agent(&self) -> &Agent {
        &self.agent
    }

    pub(crate) const fn insistence(&self) -> &Insistence {
        &self.insistence
    }

    pub(crate) const fn streams(&self) -> &Streams {
        &self.streams
    }

    /// What every connection to the machine's containers has a reference to.
    pub(crate) const fn connections(&self) -> &Arc<()> {
        &self.connections
    }

    fn list(&self) -> MutexGuard<'_, HashMap<String, Member>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What enters the file server's mount namespace never comes back.
fn in_a_thread(
    work: impl FnOnce() -> Result<(), caisson_jail::Error> + Send,
) -> Result<(), String> {
    let ended = std::thread::scope(|scope| scope.spawn(work).join());
    match ended {
        Ok(done) => done.map_err(|err| crate::error_line::chain(&err)),
        Err(_) => Err("a thread has failed".to_owned()),
    }
}

#[cfg(test)]
#[path = "members_test.rs"]
mod tests;
