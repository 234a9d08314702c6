//! Mounts, devices and kernel settings are those of config.json.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use caisson_tests::{Bundle, Scene, stories};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

stories![
    a_tmpfs_has_its_size_and_mode.smoke(),
    a_tmpfs_begins_with_what_it_covers,
    what_lies_in_the_root_is_bound_in_its_turn,
    targets_are_made_also_behind_dangling_links,
    a_read_only_root_gets_what_the_process_and_mounts_lack,
    a_mount_is_changed_by_a_later_one,
    read_only_is_for_one_mount_or_for_all,
    ids_are_those_of_the_mount,
    ids_that_can_not_be_mapped_are_named,
    propagation_is_as_configured,
    kernels_files_are_the_guests_own,
    a_read_only_dev_holds_its_nodes_and_the_console,
    a_containers_group_is_the_root_of_what_it_sees,
    devices_are_made_and_ruled,
    settings_of_the_kernel_are_set_or_named,
    what_can_not_be_mounted_is_one_clear_line,
];

fn tmpfs(place: &str, options: &[&str]) -> Value {
    json!({"destination": place, "type": "tmpfs", "source": "tmpfs", "options": options})
}

/// A bind mount of config.json.
pub(crate) fn bind(place: &str, source: &Path, options: &[&str]) -> Value {
    json!({"destination": place, "type": "bind", "source": source, "options": options})
}

/// A directory on the host with one file.
fn folder(scene: &Scene) -> PathBuf {
    let folder = scene.path(&format!("folder-{}", scene.number()));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file"), "of the host\n").unwrap();
    folder
}

/// Has a hook mount a file system below `directory`, where only the container sees it.
fn mounted_by_hook(bundle: &Bundle, folder: &Path, kind: &str) {
    let script = format!("mkdir -p {0}; mount -t {kind} none {0}", folder.display());
    let env = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-ec", script], "env": env});
    bundle.edit(|config| config["hooks"]["createContainer"] = json!([hook]));
}

/// `--shm-size` of engines is a size among the options of /dev/shm.
fn a_tmpfs_has_its_size_and_mode(scene: &Scene) {
    let script = "df -k /dev/shm /sized | awk 'NR > 1 { print $2 }'; stat -c %a /sized /covering; \
                  dd if=/dev/zero of=/dev/shm/x bs=1M count=3 2>&1 | grep -c 'No space left'";
    let bundle = scene.shell(script);
    let covered = bundle.rootfs.join("covering");
    fs::create_dir(&covered).unwrap();
    fs::set_permissions(&covered, fs::Permissions::from_mode(0o710)).unwrap();
    bundle.edit(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        let shm = mounts
            .iter_mut()
            .find(|mount| mount["destination"] == "/dev/shm");
        shm.unwrap()["options"] = json!(["nosuid", "noexec", "nodev", "mode=1777", "size=2048k"]);
        mounts.push(tmpfs("/sized", &["mode=1751", "size=1m"]));
        mounts.push(tmpfs("/covering", &[]));
    });
    assert_eq!(scene.run(&bundle).ok(), "2048\n1024\n1751\n710\n1\n");
}

fn a_tmpfs_begins_with_what_it_covers(scene: &Scene) {
    let script = "cd /kept; cat file link; stat -c '%a %u' sub owned; echo changed >file; cat file";
    let bundle = scene.shell(script);
    let kept = bundle.rootfs.join("kept");
    fs::create_dir_all(kept.join("sub")).unwrap();
    fs::set_permissions(kept.join("sub"), fs::Permissions::from_mode(0o2775)).unwrap();
    fs::write(kept.join("file"), "kept\n").unwrap();
    fs::write(kept.join("owned"), "").unwrap();
    fs::set_permissions(kept.join("owned"), fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(kept.join("owned"), Some(33), None).unwrap();
    symlink("file", kept.join("link")).unwrap();
    bundle.with_mount(tmpfs("/kept", &["tmpcopyup", "nodev"]));
    assert_eq!(
        scene.run(&bundle).ok(),
        "kept\nkept\n2775 0\n640 33\nchanged\n"
    );
    assert_eq!(fs::read_to_string(kept.join("file")).unwrap(), "kept\n");
}

fn what_lies_in_the_root_is_bound_in_its_turn(scene: &Scene) {
    let script = "cut -d' ' -f5 /proc/self/mountinfo | grep -E '^/(one|two)'; cat /two/sub/file";
    let bundle = scene.shell(script);
    let shared = folder(scene);
    bundle.with_mount(tmpfs("/one", &["mode=755"]));
    bundle.with_mount(bind("/one/sub", &shared, &["rbind"]));
    let made = bundle.rootfs.join("one");
    bundle.with_mount(bind("two", &made, &["rbind"]));
    let expected = "/one\n/one/sub\n/two\n/two/sub\nof the host\n";
    assert_eq!(scene.run(&bundle).ok(), expected);
}

fn targets_are_made_also_behind_dangling_links(scene: &Scene) {
    for read_only in [false, true] {
        let bundle = scene.shell("cat /etc/linked /elsewhere/deep/linked /new/file");
        for path in ["etc/linked", "jump", "elsewhere", "new"] {
            let path = bundle.rootfs.join(path);
            drop((fs::remove_file(&path), fs::remove_dir_all(&path)));
        }
        symlink("/jump/deep/linked", bundle.rootfs.join("etc/linked")).unwrap();
        symlink("/../elsewhere", bundle.rootfs.join("jump")).unwrap();
        let file = folder(scene).join("file");
        bundle.with_mount(bind("/etc/linked", &file, &["bind"]));
        bundle.with_mount(bind("/new/file", &file, &["bind", "ro"]));
        bundle.edit(|config| config["root"]["readonly"] = json!(read_only));
        assert_eq!(scene.run(&bundle).ok(), "of the host\n".repeat(3));
    }
}

fn a_read_only_root_gets_what_the_process_and_mounts_lack(scene: &Scene) {
    let bundle =
        scene.shell("pwd; test -p /places/pipe && echo pipe; test -S /places/s && echo socket");
    let folder = folder(scene);
    let (pipe, socket) = (folder.join("pipe"), folder.join("s"));
    mkfifo(&pipe, Mode::from_bits_truncate(0o600)).unwrap();
    let _listener = UnixListener::bind(&socket).unwrap();
    bundle.with_mount(bind("/places/pipe", &pipe, &["bind"]));
    bundle.with_mount(bind("/places/s", &socket, &["bind"]));
    bundle.edit(|config| {
        config["root"]["readonly"] = json!(true);
        config["process"]["cwd"] = json!("/job/not/there");
    });
    assert_eq!(scene.run(&bundle).ok(), "/job/not/there\npipe\nsocket\n");
}

fn a_mount_is_changed_by_a_later_one(scene: &Scene) {
    let script = "grep -E ' /(small|bound) ' /proc/mounts | cut -d' ' -f2,4; \
                  touch /bound/x 2>&1; touch /small/x && /small/x 2>&1";
    let bundle = scene.shell(script);
    bundle.with_mount(tmpfs("/small", &["size=1m", "mode=755"]));
    bundle.with_mount(tmpfs("/small", &["remount", "size=64k", "noexec"]));
    bundle.with_mount(bind("/bound", &folder(scene), &["rbind", "nosuid"]));
    let again = json!({"destination": "/bound", "options": ["remount", "bind", "ro", "nodev"]});
    bundle.with_mount(again);
    let output = scene.run(&bundle);
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert!(lines[0].starts_with("/small rw,noexec,") && lines[0].contains("size=64k"));
    assert!(lines[1].starts_with("/bound ro,nodev,"), "{lines:?}");
    assert!(lines[2].ends_with("Read-only file system"), "{lines:?}");
    assert!(lines[3].ends_with("Permission denied"), "{lines:?}");
}

/// Below the source lies another mount, which `bind` doesn't show, `ro` leaves
/// alone, and `rro` means too.
fn read_only_is_for_one_mount_or_for_all(scene: &Scene) {
    let cases: [(&[&str], &str); 4] = [
        (&["bind"], "top\nnothing below\n"),
        (&["rbind"], "top\nbelow\n"),
        (&["rbind", "ro"], "below\n"),
        (&["rbind", "rro"], ""),
    ];
    for (options, written) in cases {
        let script = "exec 2>/dev/null; touch /mnt/x && echo top; touch /mnt/sub/x && echo below; \
                      grep -q ' /mnt/sub ' /proc/mounts || echo nothing below";
        let bundle = scene.shell(script);
        let folder = folder(scene);
        mounted_by_hook(&bundle, &folder.join("sub"), "tmpfs");
        bundle.with_mount(bind("/mnt", &folder, options));
        let output = scene.run(&bundle).ok();
        let output = output.replace("top\nbelow\nnothing below", "top\nnothing below");
        assert_eq!(output, written, "{options:?}");
        assert_eq!(folder.join("x").exists(), written.starts_with("top"));
    }
}

fn with_ids(mut mount: Value, host: u32) -> Value {
    for member in ["uidMappings", "gidMappings"] {
        mount[member] = json!([{"containerID": 0, "hostID": host, "size": 65536}]);
    }
    mount
}

fn ids_are_those_of_the_mount(scene: &Scene) {
    let script = "stat -c %u:%g /mapped/file /plain/file; touch /mapped/made; stat -c %u /mapped/made; \
                  touch /elsewhere/made 2>/dev/null || echo refused";
    let bundle = scene.shell(script);
    let shared = folder(scene);
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    bundle.with_mount(with_ids(
        bind("/mapped", &shared, &["rbind", "rprivate"]),
        100_000,
    ));
    bundle.with_mount(bind("/plain", &shared, &["rbind"]));
    bundle.with_mount(with_ids(bind("/elsewhere", &shared, &["bind"]), 500_000));
    bundle.edit(|config| config["process"]["user"] = json!({"uid": 100_007, "gid": 100_008}));
    let output = scene.run(&bundle);
    // An id that the mount has no place for can own nothing in it.
    let expected = "100000:100000\n0:0\n100007\nrefused\n";
    assert_eq!(output.stdout, expected);
    let made = fs::metadata(shared.join("made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (7, 8));
}

fn ids_that_can_not_be_mapped_are_named(scene: &Scene) {
    let refused = |bundle: &Bundle| scene.run(bundle).error_line(1).to_owned();
    let shared = folder(scene);
    let bundle = scene.bundle(&["true"]);
    mounted_by_hook(&bundle, &shared, "ramfs");
    bundle.with_mount(with_ids(bind("/mapped", &shared, &["bind"]), 100_000));
    assert_eq!(
        refused(&bundle),
        format!(
            "share {}: its file system knows no id-mapped mounts; remove the mappings, or use another",
            shared.display()
        )
    );
    let bundle = scene.bundle(&["true"]);
    bundle.with_mount(bind("/mapped", &shared, &["bind", "idmap"]));
    let text = "mounts: /mapped: id-mapped mounts must have both UID and GID mappings specified";
    assert_eq!(refused(&bundle), text);
    let bundle = scene.bundle(&["true"]);
    bundle.with_mount(with_ids(tmpfs("/mapped", &[]), 1));
    let text = "mounts: /mapped: id-mapped mounts are only supported for bind-mounts";
    assert_eq!(refused(&bundle), text);
}

fn propagation_is_as_configured(scene: &Scene) {
    let script = "for place in / /shared /slave /deep; do \
                  awk -v place=$place '$5 == place' /proc/self/mountinfo | tail -n1 | sed 's/.* rw[^ ]* \\(.*\\)- .*/\\1/; s/:[0-9]*//g'; done";
    let bundle = scene.shell(script);
    bundle.edit(|config| config["linux"]["rootfsPropagation"] = json!("shared"));
    bundle.with_mount(bind("/shared", &folder(scene), &["rbind", "rshared"]));
    bundle.with_mount(bind(
        "/slave",
        &folder(scene),
        &["rbind", "shared", "slave"],
    ));
    bundle.with_mount(tmpfs("/deep", &["unbindable"]));
    let output = scene.run(&bundle).ok();
    assert_eq!(output, "shared \nshared \n\nunbindable \n");
}

fn kernels_files_are_the_guests_own(scene: &Scene) {
    let script = "cat /host/proc/sys/kernel/hostname; cat /host/proc/1/comm; ls /host/sys | grep -c kernel; \
                  test -c /host/dev/vsock && echo device; test -c /null && echo x >/null && echo null";
    let bundle = scene.shell(script);
    for top in ["/proc", "/sys", "/dev"] {
        bundle.with_mount(bind(
            &format!("/host{top}"),
            Path::new(top),
            &["rbind", "ro"],
        ));
    }
    bundle.with_mount(bind("/null", Path::new("/dev/null"), &["bind"]));
    let host = scene.run(&bundle).ok();
    assert_eq!(host, "caisson\ninit\n1\ndevice\nnull\n");
}

fn a_read_only_dev_holds_its_nodes_and_the_console(scene: &Scene) {
    let script = "ls -l /dev/console | cut -c1; echo x >/dev/null && echo null; touch /dev/x 2>&1";
    let bundle = scene.shell(script);
    bundle.with_terminal().edit(|config| {
        config["root"]["readonly"] = json!(true);
        let mounts = config["mounts"].as_array_mut().unwrap();
        let dev = mounts
            .iter_mut()
            .find(|mount| mount["destination"] == "/dev");
        dev.unwrap()["options"]
            .as_array_mut()
            .unwrap()
            .push(json!("ro"));
    });
    let expected = "c\nnull\ntouch: /dev/x: Read-only file system\n";
    assert_eq!(scene.run(&bundle).stdout, expected);
}

/// With a cgroup namespace in config.json and without, for init and for an exec.
fn a_containers_group_is_the_root_of_what_it_sees(scene: &Scene) {
    for own_namespace in [true, false] {
        let script = "cat /proc/self/cgroup; grep -c . /sys/fs/cgroup/cgroup.procs; \
                      cat /sys/fs/cgroup/pids.max; mkdir /sys/fs/cgroup/x 2>&1";
        let bundle = scene.bundle(&["sleep", "1000"]);
        bundle.with_resource("pids", json!({"limit": 77}));
        bundle.edit(|config| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "cgroup");
            if own_namespace {
                namespaces.push(json!({"type": "cgroup"}));
            }
        });
        let container = scene.started(&bundle);
        let output = container.exec(&["sh", "-c", script]).stdout;
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines[0], "0::/", "{output}");
        assert_ne!(lines[1], "0", "{output}");
        assert_eq!(lines[2], "77", "{output}");
        assert!(lines[3].ends_with("Read-only file system"), "{output}");
        let of_init = container.exec(&["cat", "/proc/1/cgroup"]).ok();
        assert_eq!(of_init, "0::/\n");
        container.remove();
    }
}

fn devices_are_made_and_ruled(scene: &Scene) {
    let device = |path: &str, kind: &str, (major, minor): (u32, u32)| json!({"path": path, "type": kind, "major": major, "minor": minor, "fileMode": 0o600, "uid": 5});
    let rule = |allow: bool, access: &str| json!({"allow": allow, "type": "c", "major": 10, "minor": 229, "access": access});
    let script = "stat -c '%F %t:%T %a %u' /dev/other-fuse /dev/pipe; mknod /dev/own c 10 229 && echo made; \
                  (exec 3</dev/other-fuse) && echo read; (exec 4>/dev/other-fuse) && echo written";
    let run = |rules: Vec<Value>| {
        let bundle = scene.shell(script);
        bundle.privileged().edit(|config| {
            let all = json!({"allow": false, "access": "rwm"});
            let rules = [vec![all], rules].concat();
            config["linux"]["resources"]["devices"] = json!(rules);
            let fuse = device("/dev/other-fuse", "c", (10, 229));
            config["linux"]["devices"] = json!([fuse, {"path": "/dev/pipe", "type": "p"}]);
        });
        scene.run(&bundle).stdout
    };
    let nodes = "character special file a:e5 600 5\nfifo 0:0 666 0\n";
    let all = run(vec![rule(true, "rwm")]);
    assert_eq!(all, format!("{nodes}made\nread\nwritten\n"));
    // Nodes may always be made, as with runc; it is their use that is ruled.
    let some = run(vec![rule(true, "rwm"), rule(false, "wm")]);
    assert_eq!(some, format!("{nodes}made\nread\n"));
    assert_eq!(run(vec![]), format!("{nodes}made\n"));
    for (path, kind, numbers, text) in [
        ("/dev/sda", "b", (8, 0), "/dev/sda (b 8:0)"),
        ("/dev/mem", "c", (1, 1), "/dev/mem (c 1:1)"),
    ] {
        let bundle = scene.bundle(&["true"]);
        bundle.edit(|config| config["linux"]["devices"] = json!([device(path, kind, numbers)]));
        let text = format!("linux.devices: {text} doesn't exist in the guest");
        scene.run(&bundle).fails(1, &text);
    }
}

fn settings_of_the_kernel_are_set_or_named(scene: &Scene) {
    let set = |name: &str, value: &str| {
        let file = format!("/proc/sys/{}", name.replace('.', "/"));
        let bundle = scene.bundle(&["cat", &file]);
        bundle.edit(|config| config["linux"]["sysctl"] = json!({name: value}));
        scene.run(&bundle)
    };
    assert_eq!(
        set("net.ipv4.ip_unprivileged_port_start", "80").ok(),
        "80\n"
    );
    let line = "linux.sysctl: the guest's kernel has no setting \"net.flavour\": no such file or directory";
    set("net.flavour", "sweet").fails(1, line);
    let line = "linux.sysctl: set \"net.ipv4.ip_forward\" to \"maybe\": invalid argument";
    set("net.ipv4.ip_forward", "maybe").fails(1, line);
    let line = "sysctl \"vm.swappiness\" is not in a separate kernel namespace";
    set("vm.swappiness", "1").fails(1, line);
}

fn what_can_not_be_mounted_is_one_clear_line(scene: &Scene) {
    let missing = scene.path("missing");
    let shared = folder(scene);
    let cases = [
        (
            bind("/x", &missing, &["bind"]),
            format!("share {}: no such file or directory", missing.display()),
        ),
        (
            bind("/x", &shared, &["bind", "size=3"]),
            "mounts: /x: option \"size\" is of a file system, not of a bind mount; remove it"
                .into(),
        ),
        (
            json!({"destination": "/x", "options": ["bind"]}),
            "mounts: /x has no source".into(),
        ),
        (
            tmpfs("/x", &["flavour=sweet"]),
            "mount /x: invalid argument".into(),
        ),
        (
            json!({"destination": "/x", "type": "flavourfs"}),
            "mount /x: no such device".into(),
        ),
        (
            bind("/proc/self/attr", &shared, &["bind"]),
            "/proc/self/attr cannot be mounted because it is inside /proc".into(),
        ),
    ];
    for (mount, line) in cases {
        let bundle = scene.bundle(&["true"]);
        bundle.with_mount(mount);
        scene.run(&bundle).fails(1, &line);
    }
}
