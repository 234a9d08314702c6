//! The socket at which a container's program says that it is ready (sd_notify(3)).
//!
//! Owns the socket's folder, which is mounted into the container, and what of all
//! that is said there the host hears: that it is ready, once.

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::Path,
    sync::{Arc, Weak},
};

use caisson_protocol::{
    NOTIFY_PATH, NOTIFY_SOCKET,
    server::agent::{Ready, event::Kind},
};

use crate::{
    failure::{Attempt, Failure},
    guest::Guest,
    stream::Stream,
};

/// Longer ones are cut; what is asked for stands in front.
const MAX_MESSAGE_LEN: usize = 4096;

/// Listens for the container of this name. Any user of it may speak.
///
/// # Errors
/// When folder or socket can't be made.
pub(crate) fn listen(container_id: &str) -> Result<Stream, Failure> {
    let folder = Path::new(NOTIFY_PATH).join(container_id);
    fs::create_dir_all(&folder).at("create", &folder)?;
    let path = folder.join(NOTIFY_SOCKET);
    let socket = UnixDatagram::bind(&path).at("listen at", &path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o777)).at("change mode of", &path)?;
    Stream::new(socket.into()).at("listen at", &path)
}

/// Tells the host once the program is ready. Goes on reading, as its users might wait.
pub(crate) async fn watch(socket: Stream, guest: Weak<Guest>, container_id: String) {
    let mut is_ready = false;
    let mut message = Vec::with_capacity(MAX_MESSAGE_LEN);
    loop {
        message.clear();
        if socket.read(&mut message).await.is_err() {
            return;
        }
        let says_so = |message: &[u8]| {
            message
                .split(|byte| *byte == b'\n')
                .any(|line| line == b"READY=1")
        };
        if is_ready || !says_so(&message) {
            continue;
        }
        is_ready = true;
        let Some(guest) = Weak::upgrade(&guest) else {
            return;
        };
        tell(&guest, &container_id);
    }
}

fn tell(guest: &Arc<Guest>, container_id: &str) {
    guest.events.push(Kind::Ready(Ready {
        container_id: container_id.to_owned(),
        ..Default::default()
    }));
}
