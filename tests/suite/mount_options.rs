//! What the options of a bind mount do, seen by their effect: a mount can show an option
//! that nobody heeds.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use caisson_tests::{Scene, stories};
use serde_json::json;

use crate::mounts::bind;

stories![
    reading_changes_access_times_as_chosen,
    two_binds_have_the_access_times_of_the_first,
    programs_devices_and_links_are_refused_as_chosen,
];

fn directory(scene: &Scene) -> PathBuf {
    let directory = scene.path(&format!("directory-{}", scene.number()));
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("file"), "text\n").unwrap();
    directory
}

/// Gives `path` times at which it was read, and changed before or after that.
fn set_times(path: &Path, read: SystemTime, changed: SystemTime) {
    let times = FileTimes::new().set_accessed(read).set_modified(changed);
    File::open(path).unwrap().set_times(times).unwrap();
}

/// Whether reading has replaced the access time that was `set`.
fn was_replaced(path: &Path, set: SystemTime) -> bool {
    let found = fs::metadata(path).unwrap().accessed().unwrap();
    let apart = found
        .duration_since(set)
        .or_else(|_| set.duration_since(found));
    apart.unwrap() > Duration::from_secs(60)
}

/// One that was read long ago, before its last change, is `relatime`'s case. Setting the
/// times is a change, so what was read after it was read in the future.
fn reading_changes_access_times_as_chosen(scene: &Scene) {
    let now = SystemTime::now();
    let far = Duration::from_secs(1_000_000);
    let (long_ago, lately) = (now - far, now + far);
    let cases: [(&[&str], SystemTime, [bool; 2]); 8] = [
        (&["rbind", "relatime"], long_ago, [true, true]),
        (&["rbind", "noatime"], long_ago, [false, false]),
        (&["rbind", "rnoatime"], long_ago, [false, false]),
        (
            &["rbind", "relatime", "nodiratime"],
            long_ago,
            [true, false],
        ),
        (&["rbind", "relatime"], lately, [false, false]),
        (&["rbind", "strictatime"], lately, [true, true]),
        (
            &["bind", "rstrictatime", "rnodiratime"],
            lately,
            [true, false],
        ),
        (&["bind", "noatime", "strictatime"], lately, [true, true]),
    ];
    let bundle =
        scene.shell("for place in /mnt*; do cat $place/file && ls $place; done >/dev/null");
    let mut directories = Vec::new();
    for (number, (options, read, _)) in cases.iter().enumerate() {
        let directory = directory(scene);
        for path in [&directory.join("file"), &directory] {
            set_times(path, *read, now);
        }
        bundle.with_mount(bind(&format!("/mnt{number}"), &directory, options));
        directories.push(directory);
    }
    assert_eq!(scene.run(&bundle).ok(), "");
    for ((options, read, expected), directory) in cases.iter().zip(&directories) {
        let changed = [&directory.join("file"), directory].map(|path| was_replaced(path, *read));
        assert_eq!(changed, *expected, "{options:?}");
    }
}

fn two_binds_have_the_access_times_of_the_first(scene: &Scene) {
    let bundle = scene.shell("cat /b/file >/dev/null");
    let directory = directory(scene);
    let long_ago = SystemTime::now() - Duration::from_secs(1_000_000);
    set_times(&directory.join("file"), long_ago, SystemTime::now());
    bundle.with_mount(bind("/a", &directory, &["rbind", "noatime"]));
    bundle.with_mount(bind("/b", &directory, &["rbind", "relatime"]));
    assert_eq!(scene.run(&bundle).ok(), "");
    assert!(!was_replaced(&directory.join("file"), long_ago));
}

fn programs_devices_and_links_are_refused_as_chosen(scene: &Scene) {
    let script = "cat /mnt/link 2>/dev/null; /mnt/busybox echo runs 2>/dev/null; \
                  (echo x >/mnt/made) 2>/dev/null && echo writes; \
                  /mnt/probe small-files /mnt/open 1 >/dev/null 2>&1; \
                  stat -c %u /mnt/open/0 2>/dev/null; true";
    let cases: [(&[&str], &str); 7] = [
        (&["rbind"], "text\nruns\nwrites\n0\n"),
        (&["rbind", "nosymfollow"], "runs\nwrites\n0\n"),
        (&["rbind", "rnosymfollow"], "runs\nwrites\n0\n"),
        (&["rbind", "noexec"], "text\nwrites\n"),
        (&["rbind", "rnoexec"], "text\nwrites\n"),
        (&["rbind", "nosuid"], "text\nruns\nwrites\n1000\n"),
        (&["rbind", "ro"], "text\nruns\n"),
    ];
    for (options, expected) in cases {
        let bundle = scene.shell(script);
        let directory = directory(scene);
        let open = directory.join("open");
        fs::create_dir(&open).unwrap();
        for path in [&directory, &open] {
            fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
        }
        symlink("file", directory.join("link")).unwrap();
        for name in ["busybox", "probe"] {
            fs::copy(bundle.rootfs.join("bin").join(name), directory.join(name)).unwrap();
        }
        let set_user_id = Permissions::from_mode(0o4755);
        fs::set_permissions(directory.join("probe"), set_user_id).unwrap();
        bundle.edit(|config| {
            config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            config["process"]["noNewPrivileges"] = json!(false);
        });
        bundle.with_mount(bind("/mnt", &directory, options));
        assert_eq!(scene.run(&bundle).stdout, expected, "{options:?}");
    }
}
