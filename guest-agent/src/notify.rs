//! The socket at which a container's program reports that it is ready (sd_notify(3)).
//!
//! Owns the socket's directory, which is mounted into the container, and the choice of
//! messages that reach the host: readiness, once.

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::Path,
    sync::Arc,
};

use caisson_protocol::{
    NOTIFY_PATH, NOTIFY_SOCKET,
    server::agent::{Ready, event::Kind},
};

use crate::{
    events::Events,
    failure::{Attempt, Failure},
    stream::Stream,
};

/// Longer messages are cut; `READY=1` is expected in the first bytes.
const MAX_MESSAGE_LEN: usize = 4096;

/// Listens for messages of a container. Any user in it may send some.
///
/// # Errors
/// When directory or socket can't be made.
pub(crate) fn listen(container_id: &str) -> Result<Stream, Failure> {
    let directory = Path::new(NOTIFY_PATH).join(container_id);
    fs::create_dir_all(&directory).at("create", &directory)?;
    let path = directory.join(NOTIFY_SOCKET);
    let socket = UnixDatagram::bind(&path).at("listen at", &path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o777)).at("change mode of", &path)?;
    Stream::new(socket.into()).at("listen at", &path)
}

/// Queues an event once the program is ready. Goes on reading afterwards, as a sender
/// might wait for room in the socket.
pub(crate) async fn watch(socket: Stream, events: Arc<Events>, container_id: String) {
    let mut is_ready = false;
    let mut message = Vec::with_capacity(MAX_MESSAGE_LEN);
    loop {
        message.clear();
        if socket.read(&mut message).await.is_err() {
            return;
        }
        let reports_ready = |message: &[u8]| {
            message
                .split(|byte| *byte == b'\n')
                .any(|line| line == b"READY=1")
        };
        if is_ready || !reports_ready(&message) {
            continue;
        }
        is_ready = true;
        events.push(Kind::Ready(Ready {
            container_id: container_id.clone(),
            ..Default::default()
        }));
    }
}
