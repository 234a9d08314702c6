//! A listening socket and the only connection it will ever have.
//!
//! vhost-user back ends accept by themselves, so they are given a listener;
//! their front end is given the connection. No one else can come between: the
//! socket has lost its name before it listens.

use std::ffi::OsStr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use crate::host::private::Directory;
use crate::process::error::{Error, step};

const NAME: &str = "vhost-user.sock";

/// The back end's listener and the front end's connection. `directory` holds the name
/// while the socket is made.
pub(crate) fn pair(directory: &Path) -> Result<(UnixListener, UnixStream), Error> {
    Directory::open(directory)
        .map_err(std::io::Error::other)
        .and_then(|directory| directory.nameless_pair(OsStr::new(NAME)))
        .map_err(step("make a vhost-user socket"))
}
