//! Receives the terminal that a proxy process makes, over a socket (runc's console
//! socket), and copies between it and the fifos.
//!
//! Owns the terminal's master until the process is deleted.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use caisson::host::private;
use caisson::host::private::Directory;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::termios::{Winsize, tcsetwinsize};

const STACK_LEN: usize = 128 * 1024;
const BUFFER_LEN: usize = 32 * 1024;

static COUNT: AtomicU64 = AtomicU64::new(0);

/// A socket that a terminal's master is sent to.
#[derive(Debug)]
pub(crate) struct ConsoleSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ConsoleSocket {
    /// Listens at a name of its own in `directory`, which need not exist.
    pub(crate) fn listen(directory: &Path) -> io::Result<Self> {
        let opened = Directory::make(directory).map_err(io::Error::other)?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!(".console-{}-{number}", std::process::id());
        let path = directory.join(&name);
        std::fs::remove_file(&path).ok();
        let listening = opened.listen(OsStr::new(&name));
        Ok(Self {
            listener: listening.map_err(io::Error::other)?,
            path,
        })
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Receives the master, which is sent before the process is reported to be created.
    pub(crate) fn receive(&self) -> io::Result<OwnedFd> {
        self.listener.set_nonblocking(true)?;
        let (stream, _) = self.listener.accept()?;
        if !private::is_trusted(&stream)? {
            return Err(io::Error::other("somebody else sends a terminal"));
        }
        let mut name = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut name)];
        recvmsg(&stream, &mut parts, &mut rights, RecvFlags::CMSG_CLOEXEC)?;
        let received = rights.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        received.ok_or_else(|| io::Error::other("no terminal was sent"))
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
}

/// A terminal with its copying threads.
#[derive(Debug)]
pub(crate) struct Terminal {
    master: File,
    output_ended: Receiver<()>,
}

impl Terminal {
    /// Starts the copying from `input` and to `output`, until the process ends.
    pub(crate) fn start(master: OwnedFd, input: File, output: File) -> io::Result<Self> {
        let master = File::from(master);
        let (to, from) = (master.try_clone()?, master.try_clone()?);
        spawn("terminal in", move || copy(input, to))?;
        let (ended, output_ended) = mpsc::channel::<()>();
        spawn("terminal out", move || {
            copy(from, output);
            drop(ended);
        })?;
        Ok(Self {
            master,
            output_ended,
        })
    }

    /// Sets its size.
    pub(crate) fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(tcsetwinsize(&self.master, size)?)
    }

    /// Waits until the output of the process is copied, `limit` at most.
    pub(crate) fn drain(&self, limit: Duration) {
        self.output_ended.recv_timeout(limit).ok();
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.stack_size(STACK_LEN).spawn(work).map(drop)
}

/// Copies until either end fails; a master does so once no process has its terminal open.
fn copy(mut from: File, mut to: File) {
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => length,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        if to
            .write_all(buffer.get(..length).unwrap_or_default())
            .is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn no_other_user_can_send_a_terminal() {
        let above = tempfile::tempdir().unwrap();
        let directory = above.path().join("state");
        let console = ConsoleSocket::listen(&directory).unwrap();
        let mode = |path: &Path| {
            let metadata = std::fs::metadata(path).unwrap();
            metadata.permissions().mode() & 0o777
        };
        assert_eq!([mode(&directory), mode(console.path())], [0o700, 0o600]);
    }
}
