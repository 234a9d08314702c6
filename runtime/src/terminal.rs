//! Terminals on the host: the pty made for a caller, and the caller's own.
//!
//! Owns modes and sizes. Line discipline belongs to the guest's pty, so the
//! host's is raw: what the guest writes arrives as it was written.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::pty::{Winsize, openpty};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::sys;

/// The host's end of a container's terminal.
#[derive(Debug)]
pub struct Pty {
    file: File,
}

impl Pty {
    /// Makes a pty and sends its master to `socket` (runc's console socket: the
    /// payload is the slave's name). The slave becomes this session's terminal,
    /// so that a change of size arrives as SIGWINCH.
    ///
    /// # Errors
    /// When the socket can't be reached or no pty can be had.
    pub fn hand_over(socket: &Path) -> io::Result<Self> {
        let pair = openpty(None, None)?;
        make_raw(&pair.slave)?;
        sys::set_controlling_terminal(pair.slave.as_fd())?;
        let name = nix::unistd::ttyname(&pair.slave)?;
        let stream = UnixStream::connect(socket)?;
        let payload = name.as_os_str().as_encoded_bytes();
        let rights = [pair.master.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&rights)];
        let parts = [IoSlice::new(payload)];
        sendmsg::<()>(
            stream.as_raw_fd(),
            &parts,
            &rights,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        Ok(Self {
            file: pair.slave.into(),
        })
    }

    /// The terminal on this process's standard input.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub fn inherited() -> io::Result<Self> {
        Ok(Self {
            file: io::stdin().as_fd().try_clone_to_owned()?.into(),
        })
    }

    /// The terminal, for reading and writing.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Lines and columns; none if it is not a terminal.
    #[must_use]
    pub fn size(&self) -> Option<(u16, u16)> {
        let Winsize { ws_row, ws_col, .. } = sys::window_size(self.file.as_fd()).ok()?;
        Some((ws_row, ws_col))
    }
}

fn make_raw(terminal: &OwnedFd) -> io::Result<()> {
    let mut modes = tcgetattr(terminal)?;
    cfmakeraw(&mut modes);
    Ok(tcsetattr(terminal, SetArg::TCSANOW, &modes)?)
}

/// The caller's terminal in raw mode, until this is dropped.
#[derive(Debug)]
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Switches the terminal on standard input; none if it is not one.
    #[must_use]
    pub fn enter() -> Option<Self> {
        let terminal = io::stdin().as_fd().try_clone_to_owned().ok()?;
        let before = tcgetattr(&terminal).ok()?;
        make_raw(&terminal).ok()?;
        Some(Self { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before).ok();
    }
}
