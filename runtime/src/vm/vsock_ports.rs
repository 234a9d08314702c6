//! Takes the connections that a guest opens and passes each to its expecting caller.
//!
//! Owns the port numbers of one machine and the proof that a connection is the
//! agent's: every process of a guest may connect to the host, so the number of a
//! port proves nothing. The agent begins each connection with the machine's token,
//! which it gets by `Hello`; a connection that begins otherwise is closed, and the
//! port goes on being expected. Only the first connection on the control port needs
//! no token: it comes before the guest has a container.

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use caisson_protocol::{CONTROL_PORT, FIRST_STREAM_PORT, TOKEN_LEN};
use nix::sys::socket::{MsgFlags, recvmsg};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::host::random::fill_random;
use crate::process::step;
use crate::process::thread;
use crate::vm::error::Error;

/// Connections on one port whose token has not arrived yet. The oldest is closed for
/// a new one: the agent sends its token right after it has connected.
const MAX_UNPROVEN_PER_PORT: usize = 16;
/// The same on all ports together.
const MAX_UNPROVEN: usize = 128;

/// What the agent of one machine begins its connections with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token([u8; TOKEN_LEN]);

impl Token {
    /// Returns a token that nobody can guess.
    ///
    /// # Errors
    /// When the kernel has no random bytes.
    pub(crate) fn random() -> io::Result<Self> {
        let mut bytes = [0; TOKEN_LEN];
        fill_random(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Returns the bytes that the agent is to send.
    pub(crate) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Compares in a time that does not depend on where `bytes` differ.
    fn is(&self, bytes: &[u8; TOKEN_LEN]) -> bool {
        let differences = self.0.iter().zip(bytes);
        differences.fold(0, |all, (ours, theirs)| all | (ours ^ theirs)) == 0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

type Waiting = Mutex<HashMap<u32, SyncSender<UnixStream>>>;

/// The guest's connections, by port. Clones share them.
#[derive(Clone)]
pub(crate) struct VsockPorts {
    token: Token,
    waiting: Arc<Waiting>,
    services: Arc<Mutex<HashMap<u32, Service>>>,
}

/// Takes every connection on a port; must not block.
type Service = Box<dyn Fn(UnixStream) + Send>;

/// A connection that the guest is expected to open.
#[derive(Debug)]
pub(crate) struct ReservedPort {
    /// The port to tell the guest.
    pub(crate) port: u32,
    receiver: Receiver<UnixStream>,
    waiting: Arc<Waiting>,
}

impl VsockPorts {
    /// Starts without connections; the agent is to send `token`.
    pub(crate) fn new(token: Token) -> Self {
        Self {
            token,
            waiting: Arc::default(),
            services: Arc::default(),
        }
    }

    /// Takes connections from the machine's channel until it closes. `agent` gets the
    /// first on the control port; further ones there are for who offers to take them.
    pub(crate) fn serve(
        &self,
        channel: OwnedFd,
        agent: impl FnOnce(UnixStream) + Send + 'static,
    ) -> Result<(), Error> {
        let streams = self.clone();
        thread::spawn("streams", 64, move || streams.take_all(&channel, agent)).map_err(Into::into)
    }

    fn take_all(&self, channel: &OwnedFd, agent: impl FnOnce(UnixStream)) {
        let mut control = std::iter::from_fn(|| receive(channel).ok().flatten());
        if let Some((_, Some(stream))) = control.find(|(port, _)| *port == CONTROL_PORT) {
            agent(stream);
        }
        let mut unproven = Vec::new();
        while let Ok(ready) = wait(channel, &unproven) {
            self.prove(&mut unproven, &ready.connections);
            if !ready.channel {
                continue;
            }
            match receive(channel) {
                Ok(Some((port, stream))) => self.admit(port, stream, &mut unproven),
                _ => break,
            }
        }
        // Nothing more will come: whoever still waits learns it at once.
        self.waiting().clear();
    }

    /// Keeps a connection on a known port until it has proved to be the agent's.
    fn admit(&self, port: u32, stream: Option<UnixStream>, unproven: &mut Vec<Unproven>) {
        if !self.waiting().contains_key(&port) && !self.services().contains_key(&port) {
            return;
        }
        let Some(stream) = stream else {
            // It was lost for lack of descriptors: the caller learns that it does not come.
            self.waiting().remove(&port);
            return;
        };
        let on_port = unproven.iter().filter(|one| one.port == port).count();
        let oldest = if on_port >= MAX_UNPROVEN_PER_PORT {
            unproven.iter().position(|one| one.port == port)
        } else {
            (unproven.len() >= MAX_UNPROVEN).then_some(0)
        };
        if let Some(oldest) = oldest {
            unproven.remove(oldest);
        }
        unproven.push(Unproven::new(port, stream));
    }

    /// Reads what has come of tokens; connections with the right one are passed on.
    fn prove(&self, unproven: &mut Vec<Unproven>, ready: &[bool]) {
        let mut ready = ready.iter();
        let finished = unproven.extract_if(.., |one| match ready.next() {
            Some(true) => one.read() != Proof::Incomplete,
            _ => false,
        });
        for one in finished {
            if one.received == TOKEN_LEN && self.token.is(&one.token) {
                self.pass_on(one.port, one.stream);
            }
        }
    }

    fn pass_on(&self, port: u32, stream: UnixStream) {
        let waiting = self.waiting().remove(&port);
        match (waiting, self.services().get(&port)) {
            (Some(sender), _) => drop(sender.send(stream)),
            (None, Some(service)) => service(stream),
            (None, None) => {}
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u32, SyncSender<UnixStream>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn services(&self) -> MutexGuard<'_, HashMap<u32, Service>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands every connection on `port` to `service`, which must not block.
    pub(crate) fn offer(&self, port: u32, service: impl Fn(UnixStream) + Send + 'static) {
        self.services().insert(port, Box::new(service));
    }

    /// Expects a connection on a port that a process of the guest can't guess.
    ///
    /// # Errors
    /// When the kernel has no random bytes.
    pub(crate) fn expect(&self) -> Result<ReservedPort, Error> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let mut waiting = self.waiting();
        let mut port = random_port()?;
        while waiting.contains_key(&port) {
            port = random_port()?;
        }
        waiting.insert(port, sender);
        drop(waiting);
        Ok(ReservedPort {
            port,
            receiver,
            waiting: Arc::clone(&self.waiting),
        })
    }
}

/// Any port but the fixed ones, and not `VMADDR_PORT_ANY` (vsock(7)).
fn random_port() -> Result<u32, Error> {
    loop {
        let mut bytes = [0; 4];
        fill_random(&mut bytes).map_err(step("choose a port"))?;
        let port = u32::from_ne_bytes(bytes);
        if (FIRST_STREAM_PORT..u32::MAX).contains(&port) {
            return Ok(port);
        }
    }
}

impl ReservedPort {
    /// Takes the connection, waiting `limit` for it at most.
    pub(crate) fn take(&self, limit: Duration) -> Option<UnixStream> {
        self.receiver.recv_timeout(limit).ok()
    }
}

impl Drop for ReservedPort {
    fn drop(&mut self) {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.port);
    }
}

/// A connection whose token has not been read to its end.
struct Unproven {
    port: u32,
    stream: UnixStream,
    token: [u8; TOKEN_LEN],
    received: usize,
}

#[derive(PartialEq, Eq)]
enum Proof {
    Incomplete,
    /// All bytes are there, or no more will come.
    Finished,
}

impl Unproven {
    const fn new(port: u32, stream: UnixStream) -> Self {
        Self {
            port,
            stream,
            token: [0; TOKEN_LEN],
            received: 0,
        }
    }

    /// Reads no byte beyond the token: what follows is for the one who takes the stream.
    fn read(&mut self) -> Proof {
        let Some(rest @ [_, ..]) = self.token.get_mut(self.received..) else {
            return Proof::Finished;
        };
        match recv(&self.stream, rest, RecvFlags::DONTWAIT) {
            Ok((0, _)) => Proof::Finished,
            Ok((length, _)) => {
                self.received += length;
                if self.received < TOKEN_LEN {
                    Proof::Incomplete
                } else {
                    Proof::Finished
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => Proof::Incomplete,
            Err(_) => Proof::Finished,
        }
    }
}

/// What can be read without waiting.
struct Ready {
    channel: bool,
    connections: Vec<bool>,
}

fn wait(channel: &OwnedFd, unproven: &[Unproven]) -> io::Result<Ready> {
    let connections = unproven.iter().map(|one| one.stream.as_fd());
    let all = std::iter::once(channel.as_fd()).chain(connections);
    let mut all: Vec<_> = all
        .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
        .collect();
    loop {
        match poll(&mut all, None) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let mut ready = all.iter().map(|one| !one.revents().is_empty());
    Ok(Ready {
        channel: ready.next().unwrap_or(false),
        connections: ready.collect(),
    })
}

/// One packet of the channel: a port and its stream, which is lost where this process
/// has no descriptor left; none at the channel's end.
fn receive(channel: &OwnedFd) -> io::Result<Option<(u32, Option<UnixStream>)>> {
    let mut port = [0; 4];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let mut parts = [IoSliceMut::new(&mut port)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(channel.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    if message.bytes != 4 {
        return Ok(None);
    }
    // Control data that was cut off is an error to the library.
    let stream = message.cmsgs().ok().map(crate::owner::wire::owned);
    let stream = stream.and_then(|mut descriptors| descriptors.pop());
    Ok(Some((
        u32::from_le_bytes(port),
        stream.map(UnixStream::from),
    )))
}

#[cfg(test)]
#[path = "vsock_ports_test.rs"]
mod tests;
