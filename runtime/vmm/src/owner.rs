//! The control socket: packets in, packets out. What a request does is decided in
//! `event_loop`.

use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use crate::control::{MAX_PACKET_LEN, Report, Request};
use crate::sys::receive_packet;

/// The owner's end is gone, or does not speak the protocol.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The owner is dead.
    #[error("the owner closed the control socket")]
    Closed,
    /// The packet is not a request.
    #[error("invalid control message")]
    Packet(#[source] serde_json::Error),
    /// The socket failed.
    #[error("use the control socket")]
    Socket(#[from] io::Error),
}

/// The connection to the owner.
#[derive(Debug)]
pub(crate) struct Owner {
    /// A SOCK_SEQPACKET socket; the type only names the address family.
    socket: UnixStream,
}

impl Owner {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// The next request and the descriptors that came with it. Call when readable.
    pub(crate) fn receive(&self) -> Result<(Request, Vec<OwnedFd>), Error> {
        let mut packet = vec![0; MAX_PACKET_LEN];
        let (len, descriptors) = receive_packet(self.socket.as_fd(), &mut packet)?;
        match packet.get(..len) {
            None | Some([]) => Err(Error::Closed),
            Some(bytes) => {
                let request = serde_json::from_slice(bytes).map_err(Error::Packet)?;
                Ok((request, descriptors))
            }
        }
    }

    /// Sends one report.
    pub(crate) fn report(&mut self, report: &Report) -> Result<(), Error> {
        let packet = serde_json::to_vec(report).map_err(Error::Packet)?;
        self.socket.write_all(&packet)?;
        Ok(())
    }
}

impl AsRawFd for Owner {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
