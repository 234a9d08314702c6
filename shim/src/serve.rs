//! The server: from the inherited socket to its orderly end.
//!
//! Owns the order of these steps, and the reasons to end: a Shutdown call once no
//! container is left, or a signal. Containers that still run end with the server.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, IntoRawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

use crate::arguments::Arguments;
use crate::containers::Containers;
use crate::events::Publisher;
use crate::log::Log;
use crate::settings::Settings;
use crate::{paths, sandbox, task, unserved};

/// containerd may be gone: events that it has not accepted by then are lost.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// Why a server ends before its time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A step of its own failed.
    #[error("{0}")]
    Step(&'static str, #[source] io::Error),
    /// The library's state directory can't be used.
    #[error(transparent)]
    Store(#[from] caisson::container::store::Error),
    /// The services can't be offered.
    #[error("serve: {0}")]
    Serve(ttrpc::Error),
}

/// Serves until the end.
pub(crate) fn serve(arguments: &Arguments) -> Result<(), Error> {
    let (stop, stopped) = mpsc::channel();
    watch_signals(stop.clone()).map_err(|err| Error::Step("watch signals", err))?;
    let listener = take_listener().map_err(|err| Error::Step("take the socket over", err))?;
    let bundle = std::env::current_dir().map_err(|err| Error::Step("find the bundle", err))?;
    let log = Arc::new(Log::open(&bundle));
    let destination = arguments
        .events
        .clone()
        .or_else(|| std::env::var("TTRPC_ADDRESS").ok());
    let publisher = Publisher::begin(&arguments.namespace, destination, Arc::clone(&log))
        .map_err(|err| Error::Step("start a thread", err))?;
    let settings = Settings {
        root: paths::state_directory(&arguments.namespace),
        namespace: arguments.namespace.clone(),
        debug: arguments.debug,
    };
    let containers = Arc::new(Containers::new(settings, publisher.clone(), log)?);

    let socket = OwnSocket::of(&listener);
    let mut server = ttrpc::Server::new()
        .add_listener(listener.into_raw_fd())
        .map_err(Error::Serve)?
        .register_service(task::services(&containers, &stop))
        .register_service(sandbox::service(&containers, &stop))
        .register_service(unserved::methods());
    server.start().map_err(Error::Serve)?;
    stopped.recv().ok();
    // Before anything that takes time: a start of one more container needs a server that
    // stays.
    if let Some(socket) = socket {
        socket.remove();
    }
    // A creation that is under way leaves a container.
    containers.end_all();
    publisher.flush(FLUSH_LIMIT);
    close(server, FLUSH_LIMIT);
    Ok(())
}

/// The socket of this server, unless another server has replaced it.
struct OwnSocket {
    path: PathBuf,
    file: (u64, u64),
}

impl OwnSocket {
    /// While the listener is open its path is not taken over.
    fn of(listener: &UnixListener) -> Option<Self> {
        let address = listener.local_addr().ok()?;
        let path = address.as_pathname()?.to_owned();
        let file = file_at(&path)?;
        Some(Self { path, file })
    }

    fn remove(self) {
        if file_at(&self.path) == Some(self.file) {
            fs::remove_file(&self.path).ok();
        }
    }
}

/// Device and inode.
fn file_at(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Sends the last responses. A call that still waits is not waited for.
fn close(server: ttrpc::Server, limit: Duration) {
    let (closed, closing) = mpsc::channel::<()>();
    let work = move || {
        server.shutdown();
        drop(closed);
    };
    let thread = std::thread::Builder::new().name("closing".into());
    if thread.spawn(work).is_ok() {
        closing.recv_timeout(limit).ok();
    }
}

/// Takes the socket from standard input, which is /dev/null from then on.
fn take_listener() -> io::Result<UnixListener> {
    let listener = io::stdin().as_fd().try_clone_to_owned()?;
    let null = File::open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    Ok(listener.into())
}

/// Called before any other thread is started, so that every thread has the mask.
fn watch_signals(stop: Sender<()>) -> io::Result<()> {
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGTERM);
    ends.add(Signal::SIGINT);
    ends.thread_block()?;
    let work = move || {
        while ends.wait().is_ok() && stop.send(()).is_ok() {}
    };
    let thread = std::thread::Builder::new().name("signals".into());
    thread.stack_size(64 * 1024).spawn(work).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_another_has_made_there_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let [first, second] = [(); 2].map(|()| OwnSocket::of(&listener).unwrap());
        first.remove();
        assert!(!path.exists());
        let _other = UnixListener::bind(&path).unwrap();
        second.remove();
        assert!(path.exists());
    }
}
