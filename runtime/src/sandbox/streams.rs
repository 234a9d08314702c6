//! Takes the connections that a guest opens and hands each to whoever expects it.
//!
//! Owns the port numbers of one machine. A port that no one expects is closed,
//! so a hostile guest reaches nothing by guessing.

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use caisson_protocol::{CONTROL_PORT, FIRST_STREAM_PORT};
use nix::sys::socket::{MsgFlags, recvmsg};

use super::error::Error;
use super::thread;

type Waiting = Mutex<HashMap<u32, SyncSender<UnixStream>>>;

/// The guest's connections, by port. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Streams {
    waiting: Arc<Waiting>,
    used: Arc<AtomicU32>,
    services: Arc<Mutex<HashMap<u32, Service>>>,
}

/// Takes every connection on a port; must not block.
type Service = Box<dyn Fn(UnixStream) + Send>;

/// A connection that the guest is expected to open.
#[derive(Debug)]
pub(crate) struct Expected {
    /// The port to tell the guest.
    pub(crate) port: u32,
    receiver: Receiver<UnixStream>,
    waiting: Arc<Waiting>,
}

impl Streams {
    /// Takes connections from the machine's channel until it closes. The first
    /// on the control port is the agent's, which `agent` is called with.
    pub(crate) fn serve(
        &self,
        channel: OwnedFd,
        agent: impl FnOnce(UnixStream) + Send + 'static,
    ) -> Result<(), Error> {
        let streams = self.clone();
        thread::spawn("streams", 64, move || streams.take_all(&channel, agent))
    }

    fn take_all(&self, channel: &OwnedFd, agent: impl FnOnce(UnixStream)) {
        let mut control = std::iter::from_fn(|| receive(channel).ok().flatten());
        if let Some((_, Some(stream))) = control.find(|(port, _)| *port == CONTROL_PORT) {
            agent(stream);
        }
        while let Ok(Some((port, stream))) = receive(channel) {
            self.hand_over(port, stream);
        }
        // Nothing more will come: whoever still waits learns it at once.
        self.waiting().clear();
    }

    /// Where the stream is lost, who waited for it learns that it does not come.
    fn hand_over(&self, port: u32, stream: Option<UnixStream>) {
        let waiting = self.waiting().remove(&port);
        match (stream, waiting, self.services().get(&port)) {
            (Some(stream), Some(sender), _) => drop(sender.send(stream)),
            (Some(stream), None, Some(service)) => service(stream),
            _ => {}
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

    /// Expects a connection on a port no one has used yet.
    pub(crate) fn expect(&self) -> Expected {
        let used = self.used.fetch_add(1, Ordering::Relaxed);
        let port = FIRST_STREAM_PORT.wrapping_add(used);
        let (sender, receiver) = mpsc::sync_channel(1);
        self.waiting().insert(port, sender);
        Expected {
            port,
            receiver,
            waiting: Arc::clone(&self.waiting),
        }
    }
}

impl Expected {
    /// Takes the connection, waiting `limit` for it at most.
    pub(crate) fn take(&self, limit: Duration) -> Option<UnixStream> {
        self.receiver.recv_timeout(limit).ok()
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.port);
    }
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
mod tests {
    use super::*;
    use nix::sys::socket::{
        AddressFamily, ControlMessage, SockFlag, SockType, sendmsg, socketpair,
    };
    use std::io::{IoSlice, Read};

    fn channel() -> (OwnedFd, OwnedFd) {
        let kind = SockType::SeqPacket;
        socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    fn connect(channel: &OwnedFd, port: u32) -> UnixStream {
        let (guest, owner) = UnixStream::pair().unwrap();
        let rights = [owner.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&rights)];
        let bytes = port.to_le_bytes();
        let parts = [IoSlice::new(&bytes)];
        sendmsg::<()>(
            channel.as_raw_fd(),
            &parts,
            &rights,
            MsgFlags::empty(),
            None,
        )
        .unwrap();
        guest
    }

    #[test]
    fn an_expected_port_is_handed_over_and_any_other_is_closed() {
        let (device, owner) = channel();
        let streams = Streams::default();
        let (arrived, agent) = mpsc::channel();
        streams
            .serve(owner, move |stream| arrived.send(stream).unwrap())
            .unwrap();
        let _agent = connect(&device, CONTROL_PORT);
        agent.recv().unwrap();
        let expected = streams.expect();
        let mut stranger = connect(&device, 7);
        assert_eq!(stranger.read(&mut [0]).unwrap(), 0);
        let _guest = connect(&device, expected.port);
        assert!(expected.take(Duration::from_secs(10)).is_some());
    }

    #[test]
    fn a_dead_machine_wakes_whoever_waits() {
        let (device, owner) = channel();
        let streams = Streams::default();
        let expected = streams.expect();
        streams.serve(owner, drop).unwrap();
        drop(device);
        assert!(expected.take(Duration::from_secs(60)).is_none());
    }
}
