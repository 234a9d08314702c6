//! Resolving inside a root made of a temporary directory; no privileges needed.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use super::*;

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("caisson-rootfs-{}-{name}", std::process::id()));
        fs::create_dir_all(path.join("root")).unwrap();
        Self(path)
    }

    fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    fn rootfs(&self) -> Rootfs {
        Rootfs::new(fs::File::open(self.root()).unwrap().into())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn missing_parents_are_made() {
    let directory = Directory::new("parents");
    let rootfs = directory.rootfs();
    rootfs
        .mount_point(Path::new("/a/b/c"), PointKind::Directory)
        .unwrap();
    rootfs
        .mount_point(Path::new("/a/f"), PointKind::File)
        .unwrap();
    assert!(directory.root().join("a/b/c").is_dir());
    assert!(directory.root().join("a/f").is_file());
}

#[test]
fn a_link_out_of_the_root_leads_inside_of_it() {
    let directory = Directory::new("links");
    symlink("/../../outside", directory.root().join("absolute")).unwrap();
    symlink("../../outside", directory.root().join("relative")).unwrap();
    let rootfs = directory.rootfs();
    for link in ["/absolute/x", "/relative/y"] {
        rootfs
            .mount_point(Path::new(link), PointKind::Directory)
            .unwrap();
    }
    assert!(directory.root().join("outside/x").is_dir());
    assert!(directory.root().join("outside/y").is_dir());
    assert!(!directory.0.join("outside").exists());
}

#[test]
fn dots_stop_at_the_root() {
    let directory = Directory::new("dots");
    let rootfs = directory.rootfs();
    rootfs
        .mount_point(Path::new("/../../x/../y"), PointKind::Directory)
        .unwrap();
    assert!(directory.root().join("y").is_dir());
    assert!(!directory.0.join("y").exists());
}

#[test]
fn a_loop_of_links_is_an_error() {
    let directory = Directory::new("loop");
    symlink("/b", directory.root().join("a")).unwrap();
    symlink("/a", directory.root().join("b")).unwrap();
    let refused = directory
        .rootfs()
        .mount_point(Path::new("/a"), PointKind::Directory);
    assert!(refused.unwrap_err().line().contains("too many"));
}

#[test]
fn a_file_in_the_way_is_named() {
    let directory = Directory::new("file");
    fs::write(directory.root().join("f"), "").unwrap();
    let refused = directory
        .rootfs()
        .mount_point(Path::new("/f/x"), PointKind::Directory);
    assert_eq!(refused.unwrap_err().line(), "open /f/x: not a directory");
}
