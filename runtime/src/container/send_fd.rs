//! Gives one descriptor away over a socket that a caller listens on: runc's form
//! for console sockets and pidfd sockets.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// Connects to `socket` and sends one message: `payload`, and the descriptor beside it.
///
/// # Errors
/// When nobody listens, or no longer reads.
pub fn send_fd(socket: &Path, payload: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let stream = UnixStream::connect(socket)?;
    let rights = [descriptor.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&rights)];
    let parts = [IoSlice::new(payload)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(stream.as_raw_fd(), &parts, &rights, flags, None)?;
    Ok(())
}
