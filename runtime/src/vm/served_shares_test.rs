//! Shares of directories that exist, without mounts of their own.

use std::fs::{self, File};

use super::*;
use crate::owner::PlaceInFileSystem;

/// A directory with `d/s/f`, gone with the value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("caisson-served-{name}-{}", std::process::id()));
        fs::create_dir_all(path.join("d/s")).unwrap();
        fs::write(path.join("d/s/f"), "").unwrap();
        Self(path)
    }

    fn cut(&self, inside: &str, target: &str) -> Cut {
        let source = self.0.join(inside);
        let share = OfferedShare {
            path: target.into(),
            is_dir: source.is_dir(),
            place: HostPlace {
                source: source.clone(),
                in_file_system: None,
                access: Access::AsMounted,
                id_maps: None,
                has_mapped_source: false,
                below: Vec::new(),
            },
        };
        Cut {
            share,
            tree: File::open(source).unwrap().into(),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn paths<const N: usize>(paths: [&str; N]) -> Vec<PathBuf> {
    paths.map(PathBuf::from).to_vec()
}

fn moves(placement: &Placement) -> Vec<(String, String)> {
    let text = |path: &PathBuf| path.display().to_string();
    let moved = placement.moved.iter();
    moved
        .map(|moved| (text(&moved.from), text(&moved.to)))
        .collect()
}

fn pair(from: &str, to: &str) -> (String, String) {
    (from.to_owned(), to.to_owned())
}

#[test]
fn what_lies_in_another_is_a_part_of_it_in_whatever_order_they_are_named() {
    let folder = Folder::new("order");
    let cuts = vec![
        folder.cut("d/s/f", "c/0"),
        folder.cut("d/s", "c/1"),
        folder.cut("d", "c/2"),
        folder.cut("d", "c/3"),
    ];
    let placement = Served::default().place("c", cuts);
    assert_eq!(placement.new, paths(["c/2"]));
    let wanted = [
        pair("c/0", "c/2/s/f"),
        pair("c/1", "c/2/s"),
        pair("c/3", "c/2"),
    ];
    assert_eq!(moves(&placement), wanted);
}

#[test]
fn a_file_system_that_is_mounted_twice_is_known_by_its_own_paths() {
    let folder = Folder::new("mounted-twice");
    let at = |mut cut: Cut, path: &str, source: &str| {
        cut.share.place.in_file_system = Some(PlaceInFileSystem {
            device: "8:1".to_owned(),
            path: path.into(),
        });
        cut.share.place.source = source.into();
        cut
    };
    let all = at(folder.cut("d", "c/0"), "/v", "/mnt/one");
    let sub = at(folder.cut("d/s", "c/1"), "/v/s", "/mnt/two");
    let placement = Served::default().place("c", vec![sub, all]);
    assert_eq!(moves(&placement), [pair("c/1", "c/0/s")]);
    // A name that leads to another file is no part.
    let all = at(folder.cut("d", "c/0"), "/v", "/mnt/one");
    let other = at(folder.cut("d/s/f", "c/1"), "/v/s", "/mnt/two");
    let placement = Served::default().place("c", vec![all, other]);
    assert_eq!(placement.new, paths(["c/0", "c/1"]));
}

#[test]
fn other_ids_and_other_mounts_below_are_shares_of_their_own() {
    let folder = Folder::new("different");
    let mut mapped = folder.cut("d", "c/1");
    mapped.share.place.id_maps = Some(crate::oci::plan::IdMaps {
        uids: "0 1 1\n".to_owned(),
        gids: "0 1 1\n".to_owned(),
        recursive: false,
    });
    let mut with_mount = folder.cut("d", "c/2");
    with_mount.share.place.below = vec![MountBelow {
        path: "s/m".into(),
        device: "0:9".to_owned(),
        root: "/".into(),
        options: "rw".into(),
    }];
    let mut part = folder.cut("d/s", "c/3");
    part.share.place.below = vec![MountBelow {
        path: "m".into(),
        device: "0:9".to_owned(),
        root: "/".into(),
        options: "rw".into(),
    }];
    let cuts = vec![folder.cut("d", "c/0"), mapped, with_mount, part];
    let placement = Served::default().place("c", cuts);
    assert_eq!(placement.new, paths(["c/0", "c/1", "c/2"]));
    assert_eq!(moves(&placement), [pair("c/3", "c/2/s")]);
}

#[test]
fn a_share_stays_until_its_last_user_is_gone_and_its_name_with_it() {
    let folder = Folder::new("users");
    let mut served = Served::default();
    served.place("a", vec![folder.cut("d", "a/0")]);
    let joined = served.place("b", vec![folder.cut("d/s", "b/0")]);
    assert_eq!(joined.new, paths([]));
    assert_eq!(moves(&joined), [pair("b/0", "a/0/s")]);
    assert_eq!(served.release("a"), paths([]));
    // The name of a comes back, and its share is another one.
    let again = served.place("a", vec![folder.cut("d/s/f", "a/1"), folder.cut("", "a/0")]);
    assert_eq!(
        moves(&again),
        [pair("a/1", "a/0/s/f"), pair("a/0", "a/0.1")]
    );
    assert_eq!(served.release("b"), paths([]));
    assert_eq!(served.release("a"), paths(["a/0", "a/0.1"]));
    // What is about to go is no one's, and still there.
    let late = served.place("c", vec![folder.cut("d", "a/0")]);
    assert_eq!(late.new, paths(["a/0.2"]));
    served.forget(&paths(["a/0", "a/0.1"]));
    assert_eq!(served.0.len(), 1);
}

#[test]
fn the_guest_finds_everything_where_it_is() {
    let placement = Placement {
        used: paths(["a/0", "c/rootfs"]),
        moved: vec![Moved {
            from: "c/mounts/0".into(),
            to: "a/0/s".into(),
            read_only: true,
        }],
        ..Placement::default()
    };
    let share = |path: &str| format!("/run/caisson/share/{path}");
    let mut container = GuestContainer {
        id: "c".to_owned(),
        spec: json!({"root": {"path": share("c/rootfs")}, "mounts": [
            {"source": share("c/mounts/0"), "options": ["rbind"]},
            {"source": share("c/mounts/01")}, {"source": "tmpfs"},
        ]}),
        seccomp: None,
        state: Value::Null,
        submounts: vec![share("c/mounts/0/m")],
        root_overlay_mib: None,
        notifies: false,
    };
    placement.apply_to(&mut container);
    let mounts = json!([
        {"source": share("a/0/s"), "options": ["rbind", "ro"]},
        {"source": share("c/mounts/01")}, {"source": "tmpfs"},
    ]);
    assert_eq!(container.spec["mounts"], mounts);
    assert_eq!(container.spec["root"]["path"], share("c/rootfs"));
    let submounts = ["a/0", "a/0/s/m", "c/rootfs"].map(share);
    assert_eq!(container.submounts, submounts);
}
