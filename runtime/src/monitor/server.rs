//! The requests of other commands: one socket for each container, one thread for each
//! connection. A connection that has started a process ends that process when it is
//! closed.
//!
//! Owns the conversation. What is legal in which state is for `container_service`.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use crate::container::stdio::GuestStreams;
use crate::monitor::container_service::{Desk, Holder};
use crate::monitor::containers::{Members, NewContainer};
use crate::monitor::error::Error;
use crate::monitor::refusal::Refusal;
use crate::monitor::stdio_ports::StdioRequest;
use crate::owner::{Connection, JoinRequest, Reply, Request};
use crate::process::thread;
use crate::vm::agent::ProcessName;

/// Commands that one VM's containers take at the same time: each has a thread here,
/// and one that runs a process stays as long as that does.
const MAX_CONNECTIONS: usize = 512;

/// Answers for one container.
pub(crate) struct Server {
    service: Arc<Desk>,
    /// Those of the same VM.
    containers: Arc<Members>,
}

impl Server {
    /// Takes connections until the process ends.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub(crate) fn open(
        service: Arc<Desk>,
        containers: Arc<Members>,
        listener: UnixListener,
    ) -> Result<(), Error> {
        let server = Arc::new(Self {
            service,
            containers,
        });
        let work = move || {
            thread::take_each(listener.incoming(), |stream| server.serve(stream));
        };
        thread::spawn("requests", 256, work).map_err(Into::into)
    }

    fn serve(self: &Arc<Self>, stream: UnixStream) {
        let Some(connection) = Connection::accepted(stream) else {
            return;
        };
        let (server, turn) = (Arc::clone(self), Arc::clone(self.containers.connections()));
        if Arc::strong_count(&turn) > MAX_CONNECTIONS {
            let message = format!(
                "the container takes {MAX_CONNECTIONS} commands at a time: try again once one has ended"
            );
            connection.send_at_once(&Reply::Failed { message }).ok();
            return;
        }
        let work = move || {
            server.converse(&connection, turn);
        };
        thread::spawn("request", 256, work).ok();
    }

    /// Answers until the other end hangs up. Meanwhile `turn` counts the connection, but
    /// for one that lingers.
    fn converse(self: &Arc<Self>, connection: &Connection, turn: Arc<()>) {
        let mut started: Option<ProcessName> = None;
        let (mut follower, mut lingers) = (None, None);
        let mut turn = Some(turn);
        while let Ok((request, descriptors)) = connection.receive::<Request>() {
            let answer = match (request, &started) {
                (Request::Exec(exec), None) => match self.service.exec(connection, &exec) {
                    Ok(name) => {
                        started = Some(name);
                        continue;
                    }
                    Err(refusal) => self.service.refused(refusal),
                },
                (Request::Join(wish), None) => match self.join(connection, &wish, descriptors) {
                    Ok(name) => {
                        started = Some(name);
                        continue;
                    }
                    Err(refusal) => self.service.refused(refusal),
                },
                (Request::Signal { signal }, Some(name)) => {
                    self.service.signal(name, signal);
                    continue;
                }
                (Request::Resize { rows, columns }, Some(name)) => {
                    self.service.resize(name, rows, columns);
                    continue;
                }
                (Request::Linger, Some(name)) if lingers.is_none() => {
                    let added = self.service.linger(connection, name);
                    lingers = added.as_ref().ok().copied();
                    // What lingers has a bound of its own.
                    turn = turn.filter(|_| lingers.is_none());
                    added.map_or_else(|message| Reply::Failed { message }, |_| Reply::Done)
                }
                (Request::Follow, _) if follower.is_none() => {
                    follower = connection
                        .duplicate()
                        .ok()
                        .map(|one| self.service.follow(one));
                    Reply::Done
                }
                (request, _) => {
                    let answer = self.service.answer(&request);
                    answer.unwrap_or_else(|refusal| self.service.refused(refusal))
                }
            };
            if connection.send(&answer, &[]).is_err() {
                break;
            }
        }
        if let Some(number) = follower {
            self.service.unfollow(number);
        }
        if let Some(number) = lingers {
            self.service.linger_no_more(number);
        }
        drop(turn);
        if let Some(name) = started {
            self.abandon(&name);
        }
    }

    /// The command that started the process is gone: the process must not outlive it.
    fn abandon(&self, name: &ProcessName) {
        if name.exec_id.is_empty() {
            self.containers.abandon(&name.container_id);
        } else {
            self.service.abandon_exec(name);
        }
    }

    /// Makes one more container in the VM, for the process behind `connection`.
    fn join(
        &self,
        connection: &Connection,
        wish: &JoinRequest,
        descriptors: Vec<OwnedFd>,
    ) -> Result<ProcessName, Refusal> {
        self.service.check_joinable()?;
        let mut descriptors = descriptors.into_iter();
        let listener = descriptors.next().ok_or("a socket is missing")?;
        let trees: Vec<_> = descriptors.collect();
        if trees.len() != wish.shares.len() {
            return Err("a share is missing".into());
        }
        let proxy = Holder::Proxy {
            pid: connection.peer_pid().unwrap_or_default(),
            connection: connection.duplicate().map_err(|err| err.to_string())?,
        };
        let new = NewContainer {
            container: wish.container.clone(),
            stdio: StdioRequest {
                terminal: wish.terminal,
                stdin: wish.stdin,
                further: 0,
            },
            shares: &wish.shares,
            trees,
        };
        let mut streams = GuestStreams::default();
        let hold = |created: GuestStreams, _further: Vec<UnixStream>| {
            streams = created;
            Ok(proxy)
        };
        let service = self.containers.add(new, hold)?;
        let name = ProcessName::init_of(&wish.container.id);
        let announced = self.announce(service, listener, connection, &streams);
        if announced.is_err() {
            self.containers.abandon(&wish.container.id);
        }
        announced.map(|()| name)
    }

    /// Opens the new container's socket, and hands its streams over.
    fn announce(
        &self,
        service: Arc<Desk>,
        listener: OwnedFd,
        connection: &Connection,
        streams: &GuestStreams,
    ) -> Result<(), Refusal> {
        let containers = Arc::clone(&self.containers);
        Self::open(service, containers, UnixListener::from(listener))?;
        let all = [&streams.stdin, &streams.stdout, &streams.stderr];
        let numbers: Vec<_> = all.into_iter().flatten().map(AsRawFd::as_raw_fd).collect();
        let sent = connection.send(&Reply::Started, &numbers);
        sent.map_err(|err| Refusal::Because(err.to_string()))
    }
}
