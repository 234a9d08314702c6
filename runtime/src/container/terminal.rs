//! Terminals on the host: the pty made for a caller, and the caller's own.
//!
//! Owns modes and sizes. Line discipline belongs to the guest's pty, so the
//! host's is raw: what the guest writes arrives as it was written.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::pty::{Winsize, openpty};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use serde_json::Value;

use crate::container::send_fd::send_fd;
use crate::container::stdio::HostStdio;
use crate::owner::GuestTerminal;
use crate::sys;

/// The host's end of a container's terminal.
#[derive(Debug)]
pub enum Pty {
    /// Made for a console socket; this is its slave.
    Made(File),
    /// The caller's own, if it has one.
    Own(Option<OwnedFd>),
}

impl Pty {
    /// Makes a pty and sends its master to `socket` (runc's console socket: the
    /// payload is the slave's name). The slave becomes this session's terminal,
    /// so that a change of size arrives as SIGWINCH. It begins with the size that
    /// `process` (the OCI object) asks for.
    ///
    /// # Errors
    /// When the socket can't be reached or no pty can be had.
    pub fn send_fd(socket: &Path, process: &Value) -> io::Result<Self> {
        let pair = openpty(wanted_size(process).as_ref(), None)?;
        make_raw(&pair.slave)?;
        sys::set_controlling_terminal(pair.slave.as_fd())?;
        let name = nix::unistd::ttyname(&pair.slave)?;
        let payload = name.as_os_str().as_encoded_bytes();
        send_fd(socket, payload, pair.master.as_fd())?;
        Ok(Self::Made(pair.slave.into()))
    }

    /// The terminal on one of this process's standard streams, if any.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub fn inherited() -> io::Result<Self> {
        Ok(Self::Own(on_standard_streams()?))
    }

    /// What is read and written. The caller's own terminal is used through the
    /// standard streams: one of them may be a pipe, which then gets the output.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub fn stdio(&self) -> io::Result<HostStdio> {
        match self {
            Self::Made(slave) => HostStdio::terminal(slave),
            Self::Own(_) => HostStdio::inherited(),
        }
    }

    /// What the process gets, so that its output looks right here: the caller's
    /// own terminal ends lines itself, and a pipe in its place is spared
    /// carriage returns.
    #[must_use]
    pub const fn in_guest(&self) -> GuestTerminal {
        match self {
            Self::Made(_) => GuestTerminal::Full,
            Self::Own(_) => GuestTerminal::PlainNewlines,
        }
    }

    /// Lines and columns; none if the caller has no terminal.
    #[must_use]
    pub fn size(&self) -> Option<(u16, u16)> {
        let terminal = match self {
            Self::Made(slave) => slave.as_fd(),
            Self::Own(terminal) => terminal.as_ref()?.as_fd(),
        };
        let Winsize { ws_row, ws_col, .. } = sys::window_size(terminal).ok()?;
        Some((ws_row, ws_col))
    }
}

/// The member `consoleSize` of an OCI process object.
fn wanted_size(process: &Value) -> Option<Winsize> {
    let cells = |name: &str| {
        let count = process["consoleSize"][name].as_u64()?;
        Some(u16::try_from(count).unwrap_or(u16::MAX))
    };
    Some(Winsize {
        ws_row: cells("height")?,
        ws_col: cells("width")?,
        ws_xpixel: 0,
        ws_ypixel: 0,
    })
}

/// The first of standard error, output and input that is a terminal: runc's
/// order, by which a redirected output still leaves a terminal to set up.
fn on_standard_streams() -> io::Result<Option<OwnedFd>> {
    let (error, output, input) = (io::stderr(), io::stdout(), io::stdin());
    let streams = [error.as_fd(), output.as_fd(), input.as_fd()];
    let terminal = streams.iter().find(|stream| stream.is_terminal());
    terminal
        .map(|stream| stream.try_clone_to_owned())
        .transpose()
}

fn make_raw(terminal: &OwnedFd) -> io::Result<()> {
    let mut modes = tcgetattr(terminal)?;
    cfmakeraw(&mut modes);
    Ok(tcsetattr(terminal, SetArg::TCSANOW, &modes)?)
}

/// The caller's terminal in raw mode, until this is dropped. Output is treated as
/// before: it ends lines.
#[derive(Debug)]
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Switches the terminal on the standard streams; none if there is none.
    #[must_use]
    pub fn enter() -> Option<Self> {
        let terminal = on_standard_streams().ok()??;
        let before = tcgetattr(&terminal).ok()?;
        let mut modes = before.clone();
        cfmakeraw(&mut modes);
        modes.output_flags = before.output_flags;
        tcsetattr(&terminal, SetArg::TCSANOW, &modes).ok()?;
        Some(Self { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before).ok();
    }
}
