//! A listening socket and the only connection it will ever have.
//!
//! vhost-user back ends accept by themselves, so they are given a listener;
//! their front end is given the connection. No one else can come between:
//! the name lies in the container's private folder, and is gone at once.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use super::error::{Error, step};
use crate::owner::wire::at_any_length;

const NAME: &str = "vhost-user.sock";

/// The back end's listener and the front end's connection.
pub(crate) fn pair(folder: &Path) -> Result<(UnixListener, UnixStream), Error> {
    let path = folder.join(NAME);
    let listener = at_any_length(&path, |path| UnixListener::bind(path))
        .map_err(step("make a vhost-user socket"))?;
    let stream = at_any_length(&path, |path| UnixStream::connect(path))
        .map_err(step("connect to a vhost-user socket"))?;
    std::fs::remove_file(&path).map_err(step("remove a vhost-user socket"))?;
    Ok((listener, stream))
}
