//! Log lines of a server, for containerd: the fifo `log` in the bundle.
//!
//! Owns the descriptor. containerd may be gone or slow, which must not block the
//! server: a line that the fifo has no room for is lost.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

/// The fifo, if there is one.
#[derive(Debug)]
pub(crate) struct Log {
    fifo: Option<File>,
}

impl Log {
    /// Opens the fifo in `bundle`. With both ends held, containerd may come and go.
    pub(crate) fn open(bundle: &Path) -> Self {
        let fifo = File::options()
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW)
            .open(bundle.join("log"));
        Self { fifo: fifo.ok() }
    }

    /// Logs a warning, for the administrator.
    pub(crate) fn warn(&self, line: &str) {
        let Some(mut fifo) = self.fifo.as_ref() else {
            return;
        };
        let unix_s = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let line = line.replace('\n', " ");
        let text = format!("time={unix_s} level=warning msg={line:?} shim=caisson\n");
        fifo.write_all(text.as_bytes()).ok();
    }
}
