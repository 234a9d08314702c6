//! Modes under any umask, and what is not trusted.

use std::os::unix::fs::symlink;
use std::process::Command;

use nix::sys::stat::{Mode as Mask, umask};

use super::*;

/// Set for the process of a test that changes its umask: that is the whole process's.
const MASK: &str = "CAISSON_TEST_UMASK";

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & PERMISSIONS
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn everything_is_made_with_its_mode() {
    let above = tempfile::tempdir().unwrap();
    let path = above.path().join("a/b");
    let name = OsStr::new("one");
    let root = Directory::make(&path).unwrap();
    root.make_below(name).unwrap();
    let one = root.open_below(name).unwrap();
    one.replace("record", b"text").unwrap();
    one.replace("record", b"more").unwrap();
    let _listener = one.listen(OsStr::new("socket")).unwrap();
    for (name, wanted) in [
        ("", DIRECTORY_MODE),
        ("one", DIRECTORY_MODE),
        ("one/record", FILE_MODE),
        ("one/socket", FILE_MODE),
    ] {
        assert_eq!(mode(&path.join(name)), wanted, "{name}");
    }
    assert_eq!(mode(&above.path().join("a")), DIRECTORY_MODE);
    assert_eq!(one.read("record").unwrap(), b"more");
    one.connect(OsStr::new("socket")).unwrap();
}

#[test]
fn modes_hold_under_any_umask() {
    if let Ok(mask) = std::env::var(MASK) {
        umask(Mask::from_bits_truncate(
            u32::from_str_radix(&mask, 8).unwrap(),
        ));
        return everything_is_made_with_its_mode();
    }
    for mask in ["0", "022", "077", "0777"] {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "private::tests::modes_hold_under_any_umask"])
            .env(MASK, mask)
            .status();
        assert!(status.unwrap().success(), "umask {mask}");
    }
}

#[test]
fn what_others_may_write_is_refused_by_name() {
    let above = tempfile::tempdir().unwrap();
    let root = above.path().join("root");
    for refused in [0o777, 0o1777, 0o770, 0o702] {
        drop(Directory::make(&root).unwrap());
        chmod(&root, refused);
        let err = Directory::open(&root).unwrap_err().to_string();
        let start = format!("{} may be written to by others", root.display());
        assert!(
            err.starts_with(&start) && err.contains(&format!("{refused:04o}")),
            "{err}"
        );
        chmod(&root, DIRECTORY_MODE);
    }
    for allowed in [0o755, 0o711, 0o2750] {
        chmod(&root, allowed);
        let one = Directory::open(&root).unwrap();
        one.replace("record", b"").unwrap();
        chmod(&root.join("record"), 0o666);
        let err = one.read("record").unwrap_err();
        assert!(matches!(err, Error::Writable { mode: 0o666, .. }), "{err}");
    }
}

#[test]
fn no_link_fifo_or_file_stands_for_another_thing() {
    let above = tempfile::tempdir().unwrap();
    let root = Directory::open(above.path()).unwrap();
    let path = |name: &str| above.path().join(name);
    root.make_below(OsStr::new("real")).unwrap();
    root.replace("file", b"x").unwrap();
    symlink(path("real"), path("to-real")).unwrap();
    symlink(path("file"), path("to-file")).unwrap();
    nix::unistd::mkfifo(&path("fifo"), Mask::S_IRUSR).unwrap();
    for name in ["to-real", "file", "fifo"] {
        let err = root.open_below(OsStr::new(name)).unwrap_err().to_string();
        assert!(err.ends_with("is not a directory: remove it"), "{err}");
    }
    for name in ["to-file", "real", "fifo"] {
        let err = root.read(name).unwrap_err().to_string();
        assert!(err.ends_with("is not a file: remove it"), "{err}");
    }
    for name in ["to-file", "file", "fifo"] {
        root.connect(OsStr::new(name)).unwrap_err();
    }
    // A draft's link is replaced, and what it leads to left alone.
    symlink(path("file"), path(".record")).unwrap();
    root.replace("record", b"new").unwrap();
    assert_eq!(root.read("file").unwrap(), b"x");
    assert!(root.read("absent").unwrap_err().is_not_found());
}

#[test]
fn the_state_directory_itself_may_be_a_link_of_ones_own() {
    let above = tempfile::tempdir().unwrap();
    let link = above.path().join("link");
    symlink(above.path(), &link).unwrap();
    Directory::open(&link).unwrap();
    if own_uid() == 0 {
        std::os::unix::fs::lchown(&link, Some(65_534), None).unwrap();
        let err = Directory::open(&link).unwrap_err();
        assert!(matches!(err, Error::Owner { owner: 65_534, .. }), "{err}");
        std::os::unix::fs::chown(above.path(), Some(65_534), None).unwrap();
        let err = Directory::open(above.path()).unwrap_err().to_string();
        assert!(err.contains("belongs to user 65534"), "{err}");
    }
}

#[test]
fn a_pair_has_no_name_and_no_other_connection() {
    let above = tempfile::tempdir().unwrap();
    let root = Directory::open(above.path()).unwrap();
    let (listener, mut front) = root.nameless_pair(OsStr::new("pair")).unwrap();
    assert_eq!(fs::read_dir(above.path()).unwrap().count(), 0);
    front.write_all(b"x").unwrap();
    let (mut back, _) = listener.accept().unwrap();
    let mut byte = [0];
    back.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
}
