//! Connections from the agent to the host: it always connects out, to a port.
//!
//! Owns no connection, but the token that each begins with: every process of the
//! guest can connect to the host. In a machine it uses vsock; a directory of AF_UNIX
//! sockets, one per port, lets the real agent run in namespaces of a development
//! machine.

use std::{
    fmt, io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrLike, UnixAddr, VsockAddr, connect, socket,
    },
};

use crate::{stream::Stream, sys::set_vsock_connect_timeout};

/// A host under load may be slow to accept; the machine doesn't outlive a dead one.
const CONNECT_TIMEOUT_S: i64 = 30;

/// The address of the host. Clones share its token.
#[derive(Clone)]
pub struct Transport {
    route: Route,
    token: Arc<Mutex<Vec<u8>>>,
}

#[derive(Debug, Clone)]
enum Route {
    /// The host of this virtual machine.
    Vsock,
    /// Sockets named `<directory>/<port>`.
    Unix(PathBuf),
}

impl Transport {
    /// A transport to the host of this virtual machine.
    #[must_use]
    pub fn vsock() -> Self {
        Self::along(Route::Vsock)
    }

    /// A transport to the sockets `<directory>/<port>`.
    #[must_use]
    pub fn unix(directory: PathBuf) -> Self {
        Self::along(Route::Unix(directory))
    }

    fn along(route: Route) -> Self {
        let token = Arc::default();
        Self { route, token }
    }

    /// Sets what each further connection begins with; nothing, if empty.
    pub(crate) fn set_token(&self, token: Vec<u8>) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }

    fn token(&self) -> Vec<u8> {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        token.clone()
    }

    /// Connects to `port` of the host, and sends the token.
    ///
    /// # Errors
    /// The kernel's: `ConnectionReset` when the host doesn't know the port.
    pub(crate) async fn connect(&self, port: u32) -> io::Result<Stream> {
        let stream = match &self.route {
            Route::Vsock => {
                let host = VsockAddr::new(libc::VMADDR_CID_HOST, port);
                dial(AddressFamily::Vsock, &host).await?
            }
            Route::Unix(directory) => {
                let address = UnixAddr::new(&directory.join(port.to_string()))?;
                dial(AddressFamily::Unix, &address).await?
            }
        };
        stream.write_all(&self.token()).await?;
        Ok(stream)
    }
}

/// Connects without the token.
impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.route.fmt(f)
    }
}

async fn dial(family: AddressFamily, address: &impl SockaddrLike) -> io::Result<Stream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket: OwnedFd = socket(family, SockType::Stream, flags, None)?;
    if family == AddressFamily::Vsock {
        set_vsock_connect_timeout(socket.as_fd(), CONNECT_TIMEOUT_S)?;
    }
    let result = connect(socket.as_raw_fd(), address);
    let stream = Stream::new(socket)?;
    match result {
        Ok(()) => Ok(stream),
        Err(Errno::EINPROGRESS) => {
            stream.connected().await?;
            Ok(stream)
        }
        Err(errno) => Err(errno.into()),
    }
}
