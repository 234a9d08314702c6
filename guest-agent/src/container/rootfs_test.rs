//! Resolving inside a root made of a temporary folder; no privileges needed.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use super::*;

struct Folder(PathBuf);

impl Folder {
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

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn missing_parents_are_made() {
    let folder = Folder::new("parents");
    let rootfs = folder.rootfs();
    rootfs
        .mount_point(Path::new("/a/b/c"), PointKind::Directory)
        .unwrap();
    rootfs
        .mount_point(Path::new("/a/f"), PointKind::File)
        .unwrap();
    assert!(folder.root().join("a/b/c").is_dir());
    assert!(folder.root().join("a/f").is_file());
}

#[test]
fn a_link_out_of_the_root_leads_inside_of_it() {
    let folder = Folder::new("links");
    symlink("/../../outside", folder.root().join("absolute")).unwrap();
    symlink("../../outside", folder.root().join("relative")).unwrap();
    let rootfs = folder.rootfs();
    for link in ["/absolute/x", "/relative/y"] {
        rootfs
            .mount_point(Path::new(link), PointKind::Directory)
            .unwrap();
    }
    assert!(folder.root().join("outside/x").is_dir());
    assert!(folder.root().join("outside/y").is_dir());
    assert!(!folder.0.join("outside").exists());
}

#[test]
fn dots_stop_at_the_root() {
    let folder = Folder::new("dots");
    let rootfs = folder.rootfs();
    rootfs
        .mount_point(Path::new("/../../x/../y"), PointKind::Directory)
        .unwrap();
    assert!(folder.root().join("y").is_dir());
    assert!(!folder.0.join("y").exists());
}

#[test]
fn a_loop_of_links_is_an_error() {
    let folder = Folder::new("loop");
    symlink("/b", folder.root().join("a")).unwrap();
    symlink("/a", folder.root().join("b")).unwrap();
    let refused = folder
        .rootfs()
        .mount_point(Path::new("/a"), PointKind::Directory);
    assert!(refused.unwrap_err().line().contains("too many"));
}

#[test]
fn a_file_in_the_way_is_named() {
    let folder = Folder::new("file");
    fs::write(folder.root().join("f"), "").unwrap();
    let refused = folder
        .rootfs()
        .mount_point(Path::new("/f/x"), PointKind::Directory);
    assert_eq!(refused.unwrap_err().line(), "open /f/x: not a directory");
}
