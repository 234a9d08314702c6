//! The connection of server and machine, made by their owner before either
//! runs, so that nobody waits for a path to appear.

use std::fs;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// A listening socket for the server with one connection already waiting, and
/// the other end of that connection for the machine. (The server's library can
/// only accept, so a plain pair of sockets would not do.)
///
/// The socket is bound inside `private`, a directory of the owner that nobody else
/// can enter, and its name is gone when this returns.
///
/// # Errors
/// Those of binding, connecting and unlinking.
pub fn pair(private: &Path) -> io::Result<(UnixListener, UnixStream)> {
    let path = private.join("fs.sock");
    let listener = UnixListener::bind(&path)?;
    let connected = UnixStream::connect(&path);
    fs::remove_file(&path)?;
    Ok((listener, connected?))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::pair;

    #[test]
    fn the_ends_are_connected_and_the_name_is_gone() {
        let private = tempfile::tempdir().unwrap();
        let (listener, mut machine) = pair(private.path()).unwrap();
        assert_eq!(private.path().read_dir().unwrap().count(), 0);
        machine.write_all(b"x").unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let mut byte = [0];
        server.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }
}
