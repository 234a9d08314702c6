//! The requests of other commands: one socket for each container, one thread for each
//! connection. A connection that has started a process ends that process when it is
//! closed.
//!
//! Owns the conversation. What is legal in which state is for `container_service`.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use crate::container::stdio::GuestStreams;
use crate::monitor::container_service::{ContainerService, Holder};
use crate::monitor::containers::{Containers, NewContainer};
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
    service: Arc<ContainerService>,
    /// Those of the same VM.
    containers: Arc<Containers>,
}

impl Server {
    /// Takes connections until the process ends.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub(crate) fn open(
        service: Arc<ContainerService>,
        containers: Arc<Containers>,
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

    /// Answers until the other end hangs up. `turn` counts the connection.
    fn converse(&self, connection: &Connection, turn: Arc<()>) {
        let mut conversation = Conversation {
            server: self,
            connection,
            started: None,
            subscriber: None,
            late_output: None,
            turn: Some(turn),
        };
        while let Ok((request, descriptors)) = connection.receive::<Request>() {
            let reply = conversation.reply_to(request, descriptors);
            if reply.is_some_and(|reply| connection.send(&reply, &[]).is_err()) {
                break;
            }
        }
        conversation.end();
    }

    /// Makes one more container in the VM, for the process behind `connection`.
    fn join(
        &self,
        connection: &Connection,
        request: &JoinRequest,
        descriptors: Vec<OwnedFd>,
    ) -> Result<ProcessName, Refusal> {
        self.service.check_joinable()?;
        let mut descriptors = descriptors.into_iter();
        let listener = descriptors.next().ok_or("a socket is missing")?;
        let trees: Vec<_> = descriptors.collect();
        if trees.len() != request.shares.len() {
            return Err("a share is missing".into());
        }
        let proxy = Holder::Proxy {
            pid: connection.peer_pid().unwrap_or_default(),
            connection: connection.duplicate().map_err(|err| err.to_string())?,
        };
        let new = NewContainer {
            container: request.container.clone(),
            stdio: StdioRequest {
                terminal: request.terminal,
                stdin: request.stdin,
                further: 0,
            },
            shares: &request.shares,
            trees,
        };
        let mut streams = GuestStreams::default();
        let hold = |created: GuestStreams, _further: Vec<UnixStream>| {
            streams = created;
            Ok(proxy)
        };
        let service = self.containers.add(new, hold)?;
        let name = ProcessName::init_of(&request.container.id);
        let announced = self.announce(service, listener, connection, &streams);
        if announced.is_err() {
            self.containers.abandon(&request.container.id);
        }
        announced.map(|()| name)
    }

    /// Opens the new container's socket, and hands its streams over.
    fn announce(
        &self,
        service: Arc<ContainerService>,
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

/// The state of one connection.
struct Conversation<'a> {
    server: &'a Server,
    connection: &'a Connection,
    /// The process that ends with it.
    started: Option<ProcessName>,
    /// The number by which it gets events.
    subscriber: Option<u64>,
    /// The number by which it copies late output.
    late_output: Option<u64>,
    /// Counts it, but for one that copies late output, which has a bound of its own.
    turn: Option<Arc<()>>,
}

impl Conversation<'_> {
    /// Returns `None` for a request without a reply, and for one whose reply was sent
    /// with the streams of the process that it has started.
    fn reply_to(&mut self, request: Request, descriptors: Vec<OwnedFd>) -> Option<Reply> {
        let service = &self.server.service;
        match (request, &self.started) {
            (Request::Exec(exec), None) => {
                let name = service.exec(self.connection, &exec);
                self.follow_process(name)
            }
            (Request::Join(join), None) => {
                let name = self.server.join(self.connection, &join, descriptors);
                self.follow_process(name)
            }
            (Request::Signal { signal }, Some(name)) => {
                service.signal(name, signal);
                None
            }
            (Request::Resize { rows, columns }, Some(name)) => {
                service.resize(name, rows, columns);
                None
            }
            (Request::Linger, Some(name)) if self.late_output.is_none() => {
                let added = service.begin_late_output(self.connection, name);
                self.late_output = added.as_ref().ok().copied();
                if self.late_output.is_some() {
                    self.turn = None;
                }
                Some(added.map_or_else(|message| Reply::Failed { message }, |_| Reply::Done))
            }
            (Request::Follow, _) if self.subscriber.is_none() => {
                let duplicate = self.connection.duplicate().ok();
                self.subscriber = duplicate.map(|one| service.follow(one));
                Some(Reply::Done)
            }
            (request, _) => {
                let answer = service.answer(&request);
                Some(answer.unwrap_or_else(|refusal| service.refused(refusal)))
            }
        }
    }

    fn follow_process(&mut self, started: Result<ProcessName, Refusal>) -> Option<Reply> {
        match started {
            Ok(name) => {
                self.started = Some(name);
                None
            }
            Err(refusal) => Some(self.server.service.refused(refusal)),
        }
    }

    /// The command is gone: the process that it has started must not outlive it.
    fn end(self) {
        let service = &self.server.service;
        if let Some(number) = self.subscriber {
            service.unfollow(number);
        }
        if let Some(number) = self.late_output {
            service.end_late_output(number);
        }
        drop(self.turn);
        match self.started {
            Some(name) if name.exec_id.is_empty() => {
                self.server.containers.abandon(&name.container_id);
            }
            Some(name) => service.abandon_exec(&name),
            None => {}
        }
    }
}
