//! What is shown and hidden, on small trees.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn request(home: &Path, here: &Path) -> Request {
    Request {
        command: vec!["true".into()],
        writable: Vec::new(),
        readable: Vec::new(),
        environment: Vec::new(),
        memory_bytes: 1 << 30,
        millicpus: None,
        network: None,
        in_user_namespace: false,
        terminal: false,
        working_directory: here.to_owned(),
        home: home.to_owned(),
    }
}

fn file(path: &Path, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "x").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn only_what_all_users_may_read_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let top = directory.path();
    file(&top.join("etc/passwd"), 0o644);
    file(&top.join("etc/shadow"), 0o640);
    file(&top.join("etc/ssl/private/key"), 0o644);
    file(&top.join("etc/deep/er/key"), 0o600);
    let private = fs::Permissions::from_mode(0o710);
    fs::set_permissions(top.join("etc/ssl/private"), private).unwrap();
    symlink("/etc/shadow", top.join("etc/link")).unwrap();
    let begin = top.join("etc");
    let mut search = Search::new(top, &begin);
    search.directory(&begin, 16).unwrap();
    search.found.sort();
    let wanted = ["etc/deep/er/key", "etc/shadow", "etc/ssl/private"];
    assert_eq!(search.found, wanted.map(PathBuf::from));
    let mut shallow = Search::new(top, &begin);
    shallow.directory(&begin, 1).unwrap();
    assert_eq!(shallow.found, [PathBuf::from("etc/shadow")]);
}

#[test]
fn the_hosts_root_has_its_system_directories_alone() {
    let hidden = hidden_below(Path::new("/"), None).unwrap();
    let is_hidden = |path: &str| {
        hidden
            .iter()
            .any(|hidden| Path::new(path).starts_with(hidden))
    };
    for path in [
        "root",
        "home",
        "proc",
        "run",
        "tmp",
        "var/log",
        "etc/shadow",
    ] {
        assert!(
            is_hidden(path) || !Path::new("/").join(path).exists(),
            "{path}"
        );
    }
    for path in ["usr/bin/env", "etc/passwd", "var/lib/dpkg/status"] {
        assert!(!is_hidden(path), "{path}");
    }
}

#[test]
fn a_home_directory_is_not_shown_for_being_the_working_directory() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().canonicalize().unwrap();
    let project = home.join("project");
    fs::create_dir(&project).unwrap();
    let view = HostView::of(&request(&home, &home)).unwrap();
    assert_eq!(view.opened, []);
    assert!(
        view.remarks[0].contains("holds your home directory"),
        "{:?}",
        view.remarks
    );
    let view = HostView::of(&request(&home, &project)).unwrap();
    let wanted = Opened {
        path: project,
        is_writable: false,
    };
    assert_eq!((view.opened, view.remarks), (vec![wanted], Vec::new()));
    let view = HostView::of(&request(&home, Path::new("/usr/share"))).unwrap();
    assert_eq!(view.opened, []);
}

#[test]
fn secrets_of_a_home_directory_are_covered_unless_they_are_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().canonicalize().unwrap();
    file(&home.join(".ssh/id"), 0o600);
    file(&home.join(".netrc"), 0o600);
    let all = Request {
        writable: vec![home.clone()],
        ..request(&home, &home)
    };
    let view = HostView::of(&all).unwrap();
    assert_eq!(view.covered, [home.join(".netrc"), home.join(".ssh")]);
    let asked = Request {
        readable: vec![home.join(".ssh")],
        ..all
    };
    let view = HostView::of(&asked).unwrap();
    assert_eq!(view.covered, [home.join(".netrc")]);
    let paths: Vec<_> = view.opened.iter().map(|open| open.path.clone()).collect();
    assert_eq!(paths, [home.clone(), home.join(".ssh")]);
}

#[test]
fn what_can_not_be_opened_is_named_with_its_option() {
    let here = Path::new("/usr");
    let of = |writable: &str, readable: &str| {
        let some = |path: &str| (!path.is_empty()).then(|| PathBuf::from(path));
        let request = Request {
            writable: some(writable).into_iter().collect(),
            readable: some(readable).into_iter().collect(),
            ..request(Path::new("/root"), here)
        };
        crate::log::error_line::chain(&HostView::of(&request).unwrap_err())
    };
    assert_eq!(
        of("/none/such", ""),
        "--rw /none/such: no such file or directory"
    );
    assert!(
        of("", "/").starts_with("--ro /: the root of the host is shown in parts"),
        "{}",
        of("", "/")
    );
}

#[test]
fn in_a_user_namespace_system_directories_are_shown_one_by_one() {
    let here = Path::new("/usr");
    let request = Request {
        in_user_namespace: true,
        readable: vec!["/usr/share".into()],
        ..request(Path::new("/root"), here)
    };
    let view = HostView::of(&request).unwrap();
    let shown: Vec<_> = view.system.iter().map(PathBuf::as_path).collect();
    for wanted in ["/usr", "/etc"] {
        assert!(shown.contains(&Path::new(wanted)), "{shown:?}");
    }
    assert!(
        shown
            .iter()
            .all(|path| *path != Path::new("/var") && *path != Path::new("/home"))
    );
    assert_eq!(view.opened[0].path, Path::new("/usr/share"));
    let Root::Empty(links) = view.root else {
        panic!("{:?}", view.root);
    };
    let bin = (PathBuf::from("bin"), PathBuf::from("usr/bin"));
    assert_eq!(links.contains(&bin), Path::new("/bin").is_symlink());
    assert!(view.further.is_empty());
}

#[test]
fn a_home_directory_among_the_systems_is_hidden() {
    let home = Path::new("/usr/lib");
    let view = HostView::of(&request(home, Path::new("/usr/share"))).unwrap();
    let Root::Host(root) = view.root else {
        panic!("{:?}", view.root);
    };
    let layers = view.further.iter().chain([&root]);
    let hides = |layer: &Layer| {
        layer
            .hidden
            .iter()
            .any(|path| layer.source.join(path) == home)
    };
    assert_eq!(layers.filter(|layer| hides(layer)).count(), 1);
    // A project in it is shown, and nothing else.
    let view = HostView::of(&request(home, Path::new("/usr/lib/x"))).unwrap();
    assert_eq!(view.opened.len(), 1);
    let apart = Request {
        in_user_namespace: true,
        ..request(home, Path::new("/usr/share"))
    };
    assert_eq!(HostView::of(&apart).unwrap().covered, [home]);
}

#[test]
fn a_directory_of_secrets_is_not_shown_for_being_the_working_directory() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().canonicalize().unwrap();
    file(&home.join(".ssh/keys/id"), 0o600);
    let view = HostView::of(&request(&home, &home.join(".ssh/keys"))).unwrap();
    assert_eq!(view.opened, []);
    assert!(
        view.remarks[0].contains("holds secrets"),
        "{:?}",
        view.remarks
    );
}

#[test]
fn secrets_of_home_directories_beside_are_covered_too() {
    let all = tempfile::tempdir().unwrap();
    let all = all.path().canonicalize().unwrap();
    let [own, other] = ["own", "other"].map(|name| all.join(name));
    file(&other.join(".aws/credentials"), 0o600);
    fs::create_dir(&own).unwrap();
    let request = Request {
        readable: vec![all.clone()],
        ..request(&own, Path::new("/usr"))
    };
    let view = HostView::of(&request).unwrap();
    assert_eq!(view.covered, [other.join(".aws")]);
}

#[test]
fn the_root_as_a_home_directory_opens_nothing() {
    let view = HostView::of(&request(Path::new("/"), Path::new("/etc"))).unwrap();
    assert_eq!(view.opened, []);
}

#[test]
fn a_file_among_secrets_does_not_open_the_others() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().canonicalize().unwrap();
    file(&home.join(".ssh/known_hosts"), 0o644);
    let request = Request {
        readable: vec![home.clone(), home.join(".ssh/known_hosts")],
        ..request(&home, &home)
    };
    assert_eq!(HostView::of(&request).unwrap().covered, [home.join(".ssh")]);
}

#[test]
fn a_mount_in_a_private_directory_is_not_shown() {
    let directory = tempfile::tempdir().unwrap();
    let inside = directory.path().join("inside");
    fs::create_dir(&inside).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o710)).unwrap();
    assert!(is_private(&inside) && !is_private(Path::new("/usr/share")));
}
