//! Paths of what this shim must find again: state directories, sockets, files in the
//! bundle.
//!
//! Owns these paths, and the mode of the files. The state directory of a namespace is a
//! `--root` of the command line, which shows the same containers.

use std::fmt::Write as _;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Below it, a directory per namespace of containerd, which is a `--root`.
const STATE: &str = "/run/caisson-shim";
/// The directory of the sockets of containerd's shims, unless containerd names another.
const SOCKETS: &str = "/run/containerd/s";
const FILE_MODE: u32 = 0o600;

/// The state directory of a namespace.
pub(crate) fn state_directory(namespace: &str) -> PathBuf {
    PathBuf::from(STATE).join(namespace)
}

/// The socket of a group of containers; its length doesn't depend on the names.
pub(crate) fn socket(
    directory: Option<&str>,
    address: &str,
    namespace: &str,
    group: &str,
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
    let directory = directory.filter(|directory| !directory.is_empty());
    PathBuf::from(directory.unwrap_or(SOCKETS)).join(name)
}

/// Writes a file that only this user and root may read, such as one in a bundle; what
/// it leads to, if it is a link, is not written.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = File::options();
    let options = options.write(true).create(true).truncate(true);
    let mut file = options
        .mode(FILE_MODE)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_private_and_a_link_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let [path, link] = ["file", "link"].map(|name| directory.path().join(name));
        std::fs::write(&path, "longer").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, FILE_MODE);
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write(&link, b"other").unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_socket_is_the_same_for_a_group_and_another_for_any_other() {
        let one = socket(None, "/c", "n", "g");
        assert_eq!(one, socket(None, "/c", "n", "g"));
        assert_ne!(one, socket(None, "/c", "n", "h"));
        assert_ne!(one, socket(None, "/c", "ng", ""));
        assert!(one.as_os_str().len() < 107);
        assert!(socket(Some("/x"), "/c", "n", "g").starts_with("/x"));
    }
}
