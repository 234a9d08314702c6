//! Where this shim keeps what must be found again: state folders, sockets.
//!
//! Owns these paths. Below the state folder of a namespace lies what the
//! command line shows too, with `caisson --root`.

use std::fmt::Write;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

/// Below it, a folder per namespace of containerd, which is a `--root`.
const STATE: &str = "/run/caisson-shim";
/// Where containerd's shims put their sockets, unless told otherwise.
const SOCKETS: &str = "/run/containerd/s";

/// The state folder of a namespace.
pub(crate) fn state_folder(namespace: &str) -> PathBuf {
    PathBuf::from(STATE).join(namespace)
}

/// The socket of a group of containers: as long as any other, however long the names.
pub(crate) fn socket(
    folder: Option<&str>,
    address: &str,
    (namespace, group): (&str, &str),
) -> PathBuf {
    let mut hash = Sha256::new();
    for part in [address, namespace, group] {
        hash.update(part.as_bytes());
        hash.update(b"/");
    }
    let name = hash
        .finalize()
        .iter()
        .fold(String::new(), |mut name, byte| {
            write!(name, "{byte:02x}").ok();
            name
        });
    let folder = folder.filter(|folder| !folder.is_empty());
    PathBuf::from(folder.unwrap_or(SOCKETS)).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_the_same_for_a_group_and_another_for_any_other() {
        let one = socket(None, "/c", ("n", "g"));
        assert_eq!(one, socket(None, "/c", ("n", "g")));
        assert_ne!(one, socket(None, "/c", ("n", "h")));
        assert_ne!(one, socket(None, "/c", ("ng", "")));
        assert!(one.as_os_str().len() < 107);
        assert!(socket(Some("/x"), "/c", ("n", "g")).starts_with("/x"));
    }
}
