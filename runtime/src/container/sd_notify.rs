//! `NOTIFY_SOCKET`: a service manager wants to hear when the container's program is
//! ready (sd_notify(3)).
//!
//! Owns the host's end: the manager's socket, which the creating command connects,
//! as the owner's namespaces may not have it, and what is passed on. In the guest,
//! the agent listens in the container's place, and tells of the first `READY=1`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use caisson_protocol::{NOTIFY_PATH, NOTIFY_SOCKET};
use serde_json::{Value, json};

use crate::oci::plan::{MountPoint, Plan};

/// Where the container sees the socket's directory, as with runc.
const DESTINATION: &str = "/run/notify";
const VARIABLE: &str = "NOTIFY_SOCKET";

/// The manager's socket does not answer.
#[derive(Debug, thiserror::Error)]
#[error("{VARIABLE}={}", name.display())]
pub struct Error {
    name: std::ffi::OsString,
    #[source]
    source: io::Error,
}

/// A connection to the manager.
#[derive(Debug)]
pub struct NotifySocket(UnixDatagram);

impl NotifySocket {
    /// That of this process's environment, if it has one.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn of_environment() -> Result<Option<Self>, Error> {
        let name = std::env::var_os(VARIABLE).filter(|name| !name.is_empty());
        let connect = |name: std::ffi::OsString| {
            let address = match name.as_bytes().strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name),
                None => SocketAddr::from_pathname(&name),
            };
            let connected = address.and_then(|address| {
                let socket = UnixDatagram::unbound()?;
                socket.connect_addr(&address)?;
                Ok(Self(socket))
            });
            connected.map_err(|source| Error { name, source })
        };
        name.map(connect).transpose()
    }

    /// Says that the container is ready, and that this process stands for it.
    ///
    /// # Errors
    /// When the manager is gone.
    pub(crate) fn notify_ready(&self) -> io::Result<()> {
        self.0.send(b"READY=1\n")?;
        let pid = std::process::id();
        self.0.send(format!("MAINPID={pid}\n").as_bytes())?;
        Ok(())
    }
}

impl From<OwnedFd> for NotifySocket {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor.into())
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Has the container `id` told of a socket of its own: by its environment, and by a
/// mount of what the agent makes.
pub(crate) fn plan_for(id: &str, plan: &mut Plan) {
    let spec = &mut plan.guest_spec;
    let own = format!("{VARIABLE}=");
    let is_own = |entry: &Value| entry.as_str().is_some_and(|entry| entry.starts_with(&own));
    let mut entries = list(&mut spec["process"]["env"]);
    entries.retain(|entry| !is_own(entry));
    entries.push(format!("{own}{DESTINATION}/{NOTIFY_SOCKET}").into());
    spec["process"]["env"] = entries.into();
    let mut mounts = list(&mut spec["mounts"]);
    let is_covered = mounts.iter().any(|mount| {
        let destination = mount["destination"].as_str().unwrap_or_default();
        Path::new(DESTINATION).starts_with(destination)
    });
    mounts.push(json!({
        "destination": DESTINATION,
        "type": "bind",
        "source": format!("{NOTIFY_PATH}/{id}"),
        "options": ["bind", "nosuid", "noexec", "nodev", "ro"],
    }));
    spec["mounts"] = mounts.into();
    let is_read_only = plan.guest_spec["root"]["readonly"]
        .as_bool()
        .unwrap_or(false);
    if is_read_only && !is_covered {
        plan.mount_points.push(MountPoint {
            destination: DESTINATION.into(),
            source: None,
        });
    }
}

/// Takes a list out; none is an empty one.
fn list(value: &mut Value) -> Vec<Value> {
    match value.take() {
        Value::Array(list) => list,
        _ => Vec::new(),
    }
}
