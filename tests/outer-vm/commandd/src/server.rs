//! The command server: listens, and gives each connection a thread of its own
//! that runs one command. Knows nothing of QEMU or of containers.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use crate::protocol::SERVER_PORT;
use crate::session;

/// What the command server prints, on a line, once it can be reached.
pub const READY: &str = "outer-vm: ready";

/// Accepts connections on every interface of the test host for ever. `ready` is
/// called once connections can be made.
///
/// # Errors
/// The port is taken, or accepting does not work any more.
pub fn serve(ready: impl FnOnce()) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, SERVER_PORT))?;
    ready();
    accept_all(&listener)
}

/// As [`serve`], on a listener of the caller.
pub(crate) fn accept_all(listener: &TcpListener) -> io::Result<()> {
    loop {
        let (connection, _) = listener.accept()?;
        thread::Builder::new().spawn(move || {
            if let Err(error) = session::run(&connection) {
                eprintln!("commandd: {error}");
            }
        })?;
    }
}
