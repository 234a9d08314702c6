//! Who may enter the state directory: a stranger, user nobody, tries what a local user
//! can try beside containers of root, under every umask and with every `--root` that
//! exists.

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use caisson_tests::{Bundle, Output, Scene, stories};
use nix::unistd::{Gid, Uid, setegid, seteuid, setgroups};
use serde_json::{Value, json};

stories![
    a_stranger_gets_nothing_of_a_container_made_with_umask_0,
    a_stranger_gets_nothing_where_root_exists_and_is_readable,
    a_stranger_is_not_answered_even_where_modes_let_it_in,
    everything_is_made_with_its_mode_under_umask_0777,
    a_root_that_others_may_write_to_is_refused,
    what_a_stranger_has_planted_is_refused_by_name,
];

const NOBODY: u32 = 65_534;
/// An answer comes at once, if at all.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Does something as user nobody.
fn as_stranger<T>(what: impl FnOnce() -> T) -> T {
    setgroups(&[]).unwrap();
    setegid(Gid::from_raw(NOBODY)).unwrap();
    seteuid(Uid::from_raw(NOBODY)).unwrap();
    let result = what();
    seteuid(Uid::from_raw(0)).unwrap();
    setegid(Gid::from_raw(0)).unwrap();
    result
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// The program under test with a umask of the caller's.
fn caisson_with_umask(scene: &Scene, umask: &str, arguments: &[&str]) -> Output {
    let inner = scene.command(arguments);
    let mut command = Command::new("/bin/busybox");
    let script = format!("umask {umask}; exec \"$@\"");
    command.args(["sh", "-c", &script, "sh"]);
    command.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap());
    }
    command.stdin(std::process::Stdio::null());
    scene.output_of(command)
}

/// A running container whose environment holds a secret, made with this umask. Its pid
/// file and log lie beside the bundle.
fn container_with_umask(scene: &Scene, umask: &str) -> Bundle {
    let bundle = scene.bundle(&["sleep", "1000"]);
    bundle.edit(|config| {
        let entries = config["process"]["env"].as_array_mut().unwrap();
        entries.push("PASSWORD=secret".into());
    });
    let path = |name: &str| bundle.path.join(name).to_str().unwrap().to_owned();
    let (log, pid_file) = (path("log"), path("pid"));
    let folder = path("");
    let create = [
        "--log",
        &log,
        "create",
        "--bundle",
        &folder,
        "--pid-file",
        &pid_file,
        &bundle.id,
    ];
    caisson_with_umask(scene, umask, &create).ok();
    caisson_with_umask(scene, umask, &["start", &bundle.id]).ok();
    bundle
}

fn remove(scene: &Scene, bundle: &Bundle) {
    scene.caisson(["delete", "--force", &bundle.id]).ok();
}

/// A hook that leaves this file behind; who runs it is root.
fn hook(marker: &Path) -> Value {
    json!([{"path": "/bin/busybox", "args": ["touch", marker]}])
}

/// What the socket of a container's owner says to a stranger who wants a shell.
fn ask_for_a_shell(socket: &Path) -> io::Result<Vec<u8>> {
    let exec = json!({"exec": {
        "process": {"args": ["id"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
        "terminal": "none", "stdin": false, "cgroup": "", "ignore_paused": false, "further": 0,
    }});
    let body = exec.to_string();
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(&u32::try_from(body.len()).unwrap().to_le_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

/// All that the review of the state directory tried, and what is like it.
fn attack(scene: &Scene, bundle: &Bundle) {
    let directory = scene.state_folder().join(&bundle.id);
    let (record, socket) = (directory.join("state.json"), directory.join("owner.sock"));
    let marker = scene.path("marker");
    as_stranger(|| {
        assert!(fs::read_dir(&directory).is_err(), "listed");
        assert!(fs::read(&record).is_err(), "the record was read");
        assert!(ask_for_a_shell(&socket).is_err(), "the owner answered");
        let planted = json!({"version": 1, "hooks": {"poststop": hook(&marker)}});
        fs::write(&record, planted.to_string()).unwrap_err();
        fs::rename(&record, directory.join("other")).unwrap_err();
        fs::remove_file(&socket).unwrap_err();
        symlink("/etc/shadow", directory.join(".state.json")).unwrap_err();
        fs::hard_link(&record, "/tmp/record-of-another").unwrap_err();
        fs::create_dir(scene.state_folder().join("planted")).unwrap_err();
        symlink("/tmp", scene.state_folder().join("planted")).unwrap_err();
        for name in ["pid", "log", "config.json"] {
            let file = fs::File::options()
                .append(true)
                .open(bundle.path.join(name));
            assert!(file.is_err(), "{name} can be written");
        }
    });
    scene.caisson(["state", &bundle.id]).ok();
    assert!(!marker.exists());
}

/// Every directory, file and socket of the container, with its mode.
#[track_caller]
fn assert_private(directory: &Path) {
    assert_eq!(mode(directory), 0o700, "{}", directory.display());
    let names: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(names.iter().any(|path| {
        let kind = fs::symlink_metadata(path).unwrap().file_type();
        kind.is_socket()
    }));
    for path in names {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

fn a_stranger_gets_nothing_of_a_container_made_with_umask_0(scene: &Scene) {
    let bundle = container_with_umask(scene, "0");
    assert_eq!(mode(&scene.state_folder()), 0o700);
    assert_private(&scene.state_folder().join(&bundle.id));
    attack(scene, &bundle);
    remove(scene, &bundle);
}

fn a_stranger_gets_nothing_where_root_exists_and_is_readable(scene: &Scene) {
    fs::create_dir(scene.state_folder()).unwrap();
    chmod(&scene.state_folder(), 0o755);
    for umask in ["0", "022"] {
        let bundle = container_with_umask(scene, umask);
        assert_eq!(mode(&scene.state_folder()), 0o755, "engines rely on theirs");
        assert_private(&scene.state_folder().join(&bundle.id));
        attack(scene, &bundle);
        remove(scene, &bundle);
    }
}

fn a_stranger_is_not_answered_even_where_modes_let_it_in(scene: &Scene) {
    let bundle = container_with_umask(scene, "022");
    let directory = scene.state_folder().join(&bundle.id);
    let socket = directory.join("owner.sock");
    chmod(&scene.state_folder(), 0o755);
    chmod(&directory, 0o755);
    chmod(&socket, 0o666);
    let answer = as_stranger(|| ask_for_a_shell(&socket));
    assert!(answer.as_ref().map_or(true, Vec::is_empty), "{answer:?}");
    // And root's own commands don't use what others may write to.
    let refused = scene.caisson(["exec", &bundle.id, "true"]);
    let line = refused.error_line(255);
    assert!(
        line.contains("owner.sock may be written to by others (mode 0666)"),
        "{line}"
    );
    chmod(&socket, 0o600);
    scene.caisson(["exec", &bundle.id, "true"]).ok();
    remove(scene, &bundle);
}

fn everything_is_made_with_its_mode_under_umask_0777(scene: &Scene) {
    let bundle = container_with_umask(scene, "0777");
    assert_eq!(mode(&scene.state_folder()), 0o700);
    assert_private(&scene.state_folder().join(&bundle.id));
    remove(scene, &bundle);
}

fn a_root_that_others_may_write_to_is_refused(scene: &Scene) {
    let root = scene.state_folder();
    fs::create_dir(&root).unwrap();
    let bundle = scene.bundle(&["true"]);
    for refused in [0o777, 0o1777, 0o775] {
        chmod(&root, refused);
        let text = format!(
            "{} may be written to by others (mode {refused:04o}), so that nothing in it can be trusted: look what is in it, then `chmod go-w` it, or name another state directory with --root",
            root.display()
        );
        scene.run(&bundle).fails(1, &text);
        scene.caisson(["list"]).fails(1, &text);
        scene.caisson(["state", "x"]).fails(1, &text);
        scene.caisson(["delete", "--force", "x"]).fails(1, &text);
    }
    chmod(&root, 0o755);
    chown(&root, Some(NOBODY), None).unwrap();
    let text = format!(
        "{} belongs to user 65534, and only what belongs to user 0 or to root is trusted: remove it, or name another state directory with --root",
        root.display()
    );
    scene.run(&bundle).fails(1, &text);
    chown(&root, Some(0), None).unwrap();
}

/// As it is after a time in which others could write to `--root`.
fn what_a_stranger_has_planted_is_refused_by_name(scene: &Scene) {
    let root = scene.state_folder();
    let bundle = container_with_umask(scene, "022");
    let marker = scene.path("marker");
    let mut record: Value =
        serde_json::from_slice(&fs::read(root.join(&bundle.id).join("state.json")).unwrap())
            .unwrap();
    record["pid"] = 0.into();
    record["hooks"]["poststop"] = hook(&marker);
    let plant = |directory: &Path, owner: u32| {
        let file = directory.join("state.json");
        fs::write(&file, record.to_string()).unwrap();
        chown(&file, Some(owner), None).unwrap();
    };
    let elsewhere = scene.path("elsewhere");
    for (name, owner) in [("directory", NOBODY), ("record", 0)] {
        fs::create_dir(root.join(name)).unwrap();
        chmod(&root.join(name), 0o755);
        chown(root.join(name), Some(owner), None).unwrap();
        plant(&root.join(name), NOBODY);
    }
    fs::create_dir(root.join("linked")).unwrap();
    chmod(&root.join("linked"), 0o755);
    fs::create_dir(&elsewhere).unwrap();
    plant(&elsewhere, 0);
    symlink(&elsewhere, root.join("link")).unwrap();
    lchown(root.join("link"), Some(NOBODY), None).unwrap();
    symlink(elsewhere.join("state.json"), root.join("linked/state.json")).unwrap();
    for (name, reason) in [
        ("directory", "/directory belongs to user 65534"),
        ("record", "/record/state.json belongs to user 65534"),
        ("link", "/link is not a directory: remove it"),
        ("linked", "/linked/state.json is not a file: remove it"),
    ] {
        for verb in [&["state"][..], &["kill"], &["delete", "--force"]] {
            let output = scene.caisson([verb, &[name]].concat());
            let line = output.error_line(1);
            assert!(line.contains(reason), "{verb:?}: {line}");
        }
        let listed = scene.caisson(["list", "--quiet"]);
        assert!(listed.stderr.contains(reason), "{listed:?}");
        assert_eq!(listed.stdout, format!("{}\n", bundle.id));
    }
    assert!(elsewhere.join("state.json").exists(), "a link was followed");
    assert!(!marker.exists(), "a stranger's hook was run");
    for name in ["directory", "record", "linked"] {
        fs::remove_dir_all(root.join(name)).unwrap();
    }
    fs::remove_file(root.join("link")).unwrap();
    remove(scene, &bundle);
}
