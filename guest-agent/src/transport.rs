//! How the agent reaches the host: it always connects out, to a port.
//!
//! Owns no connection. The product speaks vsock; a folder of AF_UNIX sockets,
//! one per port, lets the real agent run in namespaces of a development machine.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::PathBuf,
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrLike, UnixAddr, VsockAddr, connect, socket,
    },
};

use crate::{stream::Stream, sys::set_vsock_connect_timeout};

/// A host under load may be slow to accept; one that is dead takes the machine along.
const CONNECT_TIMEOUT_S: i64 = 30;

/// See the module.
#[derive(Debug, Clone)]
pub enum Transport {
    /// To the host of this virtual machine.
    Vsock,
    /// To `<folder>/<port>`.
    Unix(PathBuf),
}

impl Transport {
    /// Connects to `port` of the host.
    ///
    /// # Errors
    /// The kernel's: `ConnectionReset` when the host doesn't know the port.
    pub(crate) async fn connect(&self, port: u32) -> io::Result<Stream> {
        match self {
            Self::Vsock => {
                let host = VsockAddr::new(libc::VMADDR_CID_HOST, port);
                dial(AddressFamily::Vsock, &host).await
            }
            Self::Unix(folder) => {
                let address = UnixAddr::new(&folder.join(port.to_string()))?;
                dial(AddressFamily::Unix, &address).await
            }
        }
    }
}

async fn dial(family: AddressFamily, address: &impl SockaddrLike) -> io::Result<Stream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket: OwnedFd = socket(family, SockType::Stream, flags, None)?;
    if family == AddressFamily::Vsock {
        set_vsock_connect_timeout(socket.as_fd(), CONNECT_TIMEOUT_S)?;
    }
    let answer = connect(socket.as_raw_fd(), address);
    let stream = Stream::new(socket)?;
    match answer {
        Ok(()) => Ok(stream),
        Err(Errno::EINPROGRESS) => {
            stream.connected().await?;
            Ok(stream)
        }
        Err(errno) => Err(errno.into()),
    }
}
