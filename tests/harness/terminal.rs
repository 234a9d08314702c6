//! Terminals as callers make them: a console socket that receives the master
//! of a container's terminal, and a session of its own for `run -t`.

use std::fs::File;
use std::io::{IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command};

use nix::pty::openpty;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::{Scene, wait};

/// Where a runtime sends the master of a terminal (`--console-socket`), or a pidfd
/// (`--pidfd-socket`).
#[derive(Debug)]
pub struct ConsoleSocket {
    /// Path of the socket.
    pub path: PathBuf,
    listener: UnixListener,
}

/// The master of a terminal.
#[derive(Debug)]
pub struct Terminal {
    master: File,
}

impl ConsoleSocket {
    /// Listens in the scene's directory.
    #[must_use]
    pub fn new(scene: &Scene) -> Self {
        let path = scene.path(&format!("console-{}", scene.number()));
        let listener = UnixListener::bind(&path).unwrap();
        Self { path, listener }
    }

    /// Takes the terminal and the name that was told with it.
    ///
    /// # Panics
    /// When the message carries none.
    #[must_use]
    pub fn receive(&self) -> (Terminal, String) {
        let (master, name) = self.receive_descriptor();
        let master = master.into();
        (Terminal { master }, name)
    }

    /// Takes any descriptor and the word that was told with it.
    ///
    /// # Panics
    /// When the message carries none.
    #[must_use]
    pub fn receive_descriptor(&self) -> (OwnedFd, String) {
        let (stream, _) = self.listener.accept().unwrap();
        let mut name = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        let received = {
            let mut parts = [IoSliceMut::new(&mut name)];
            recvmsg(&stream, &mut parts, &mut rights, RecvFlags::CMSG_CLOEXEC).unwrap()
        };
        let descriptor = rights.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        let descriptor = descriptor.expect("the socket got no descriptor");
        let name = String::from_utf8_lossy(&name[..received.bytes]).into_owned();
        (descriptor, name)
    }
}

impl Terminal {
    /// Runs `command` in a session of its own whose terminal this is, of so
    /// many rows and columns.
    #[must_use]
    pub fn around(scene: &Scene, command: &Command, size: (u16, u16)) -> (Self, Child) {
        let pair = openpty(None, None).unwrap();
        let slave = |slave: &OwnedFd| slave.try_clone().unwrap();
        // busybox makes the session, for want of a safe way to do it here.
        let mut session = Command::new(&scene.settings.busybox);
        session
            .args(["setsid", "-c"])
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            session.env(name, value.unwrap_or_default());
        }
        session
            .stdin(slave(&pair.slave))
            .stdout(slave(&pair.slave))
            .stderr(pair.slave);
        let terminal = Self {
            master: pair.master.into(),
        };
        terminal.resize(size.0, size.1);
        (terminal, session.spawn().unwrap())
    }

    /// Types `text`.
    pub fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until `wanted` appears, and returns all that was read.
    pub fn expect(&mut self, wanted: &str) -> String {
        let text = wait::for_text(&mut self.master, wanted);
        writeln!(std::io::stderr(), "       the terminal showed {text:?}").ok();
        text
    }

    /// Sets its size as a terminal emulator does.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.master, size).unwrap();
    }
}
