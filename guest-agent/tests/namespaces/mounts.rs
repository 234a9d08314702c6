//! Members of config.json for mounts, devices and kernel settings.

use super::attributes::{output_of, with_users};
use super::host::Host;
use serde_json::{Value, json};

pub(crate) fn mounts_take_their_options(host: &Host) {
    let mut spec = host.spec(&[
        "sh",
        "-c",
        "ls /etc; cat /made/for/me; touch /bound/x; touch /dev/x; touch /x; grep -c ' /full ' /proc/mounts",
    ]);
    let root = spec["root"]["path"].as_str().unwrap().to_owned();
    spec["root"]["readonly"] = json!(true);
    let mounts = spec["mounts"].as_array_mut().unwrap();
    mounts[1]["options"] = json!(["mode=755", "ro"]);
    mounts.push(json!({"destination": "/etc", "type": "tmpfs", "options": ["tmpcopyup"]}));
    mounts.push(
        json!({"destination": "/made/for/me", "type": "bind", "options": ["bind"],
                       "source": format!("{root}/data/plain")}),
    );
    mounts.push(json!({"destination": "/bound", "options": ["rbind", "rro"], "source": format!("{root}/data")}));
    mounts.push(json!({"destination": "/full", "type": "tmpfs",
                       "options": ["rshared", "nosuid", "noexec", "noatime", "size=1m"]}));
    let collected = host.run("mounts", &spec, b"");
    let output = String::from_utf8(collected.stdout()).unwrap();
    assert_eq!(output, "passwd\nnot a program\n1\n");
    host.delete("mounts").unwrap();
    spec["mounts"] = json!([{"destination": "/proc", "type": "proc"}, {"destination": "/proc/tty", "type": "tmpfs"}]);
    let refused = host.create("inproc", &spec, b"").err().unwrap();
    assert!(refused.contains("inside /proc"), "{refused}");
}

fn add(spec: &mut Value, mount: Value) {
    spec["mounts"].as_array_mut().unwrap().push(mount);
}

/// Kernels list mounts by age. The last one shows what earlier ones have made.
pub(crate) fn mounts_are_made_in_their_order(host: &Host) {
    let script = "cut -d' ' -f5 /proc/self/mountinfo; cat /second/inner/file; stat -c %a /like";
    let mut spec = host.spec(&["sh", "-c", script]);
    let root = spec["root"]["path"].as_str().unwrap().to_owned();
    let like = std::path::Path::new(&root).join("like");
    std::fs::create_dir(&like).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o710);
    std::fs::set_permissions(&like, mode).unwrap();
    spec["linux"]["maskedPaths"] = json!([]);
    spec["linux"]["readonlyPaths"] = json!([]);
    let data = format!("{root}/data");
    std::fs::create_dir(format!("{data}/inner")).unwrap();
    std::fs::write(format!("{data}/inner/file"), "of the root\n").unwrap();
    add(
        &mut spec,
        json!({"destination": "/first", "type": "bind", "source": data, "options": ["rbind"]}),
    );
    add(
        &mut spec,
        json!({"destination": "/first/tty", "type": "tmpfs"}),
    );
    let made = format!("{root}/first");
    add(
        &mut spec,
        json!({"destination": "/second", "source": made, "options": ["rbind"]}),
    );
    add(&mut spec, json!({"destination": "/like", "type": "tmpfs"}));
    let expected = [
        "/proc",
        "/dev",
        "/dev/pts",
        "/dev/shm",
        "/dev/mqueue",
        "/sys",
        "/sys/fs/cgroup",
        "/first",
        "/first/tty",
        "/second",
        "/second/tty",
        "/like",
        "of the root",
        "710",
    ];
    let output = output_of(host, "order", &spec);
    let lines: Vec<&str> = output.lines().skip(1).collect();
    assert_eq!(lines, expected);
    let script = "cut -d' ' -f5 /proc/self/mountinfo | grep -E '^/(sys|first|second|dev/mqueue)$'; cat /second/inner/file";
    let mut spec = with_users(host, script);
    spec["linux"]["maskedPaths"] = json!([]);
    spec["linux"]["readonlyPaths"] = json!([]);
    add(
        &mut spec,
        json!({"destination": "/first", "source": data, "options": ["rbind"]}),
    );
    add(
        &mut spec,
        json!({"destination": "/second", "source": made, "options": ["rbind"]}),
    );
    let expected = "/dev/mqueue\n/sys\n/first\n/second\nof the root\n";
    assert_eq!(output_of(host, "users", &spec), expected);
}

pub(crate) fn a_mount_is_changed_by_another(host: &Host) {
    let script = "for place in /again /small /bound /synced; do grep \" $place \" /proc/mounts; done; \
                  touch /again/x; touch /bound/plain && echo written";
    let mut spec = host.spec(&["sh", "-c", script]);
    let root = spec["root"]["path"].as_str().unwrap().to_owned();
    let tmpfs = |place: &str, options: Value| json!({"destination": place, "type": "tmpfs", "options": options});
    add(
        &mut spec,
        tmpfs("/again", json!(["nosuid", "noexec", "mode=755"])),
    );
    add(
        &mut spec,
        tmpfs("/again", json!(["remount", "bind", "ro", "nodev"])),
    );
    add(&mut spec, tmpfs("/small", json!(["size=1m", "mode=755"])));
    add(
        &mut spec,
        tmpfs("/small", json!(["remount", "size=64k", "noexec"])),
    );
    let data = format!("{root}/data");
    add(
        &mut spec,
        json!({"destination": "/bound", "source": data, "options": ["bind", "ro"]}),
    );
    add(
        &mut spec,
        json!({"destination": "/bound", "options": ["remount", "bind", "rw", "sync"]}),
    );
    add(
        &mut spec,
        tmpfs(
            "/synced",
            json!(["sync", "dirsync", "mand", "silent", "mode=700"]),
        ),
    );
    let output = output_of(host, "again", &spec);
    let lines: Vec<&str> = output.lines().collect();
    assert!(
        lines[0].starts_with("none /again tmpfs ro,nodev,relatime,")
            || lines[0].contains(" /again tmpfs ro,nodev,relatime"),
        "{output}"
    );
    assert!(
        lines[1].contains("rw,noexec,relatime") && lines[1].contains("size=64k"),
        "{output}"
    );
    assert!(
        lines[2].contains(" /bound ") && lines[2].contains(" rw,"),
        "{output}"
    );
    assert!(
        lines[3].contains("rw,sync,dirsync,relatime") && lines[3].contains("mode=700"),
        "{output}"
    );
    assert_eq!(lines[4..], ["written"], "{output}");
}

pub(crate) fn what_can_not_be_mounted_is_named(host: &Host) {
    let plain = host.spec(&["true"]);
    let root = plain["root"]["path"].as_str().unwrap().to_owned();
    let refusal = |change: &dyn Fn(&mut Value)| {
        let mut spec = plain.clone();
        change(&mut spec);
        host.create("bad", &spec, b"").err().unwrap()
    };
    let of_mount = |mount: Value| refusal(&|spec| add(spec, mount.clone()));
    assert_eq!(
        of_mount(json!({"destination": "/x", "source": "/tmp", "options": ["bind", "size=3"]})),
        "mounts: /x: option \"size\" is of a file system, not of a bind mount; remove it"
    );
    assert_eq!(
        of_mount(json!({"destination": "/nowhere/x", "options": ["remount", "ro"]})),
        "remount /nowhere/x: no such file or directory"
    );
    assert_eq!(
        of_mount(json!({"destination": "/x", "type": "tmpfs", "options": ["flavour=sweet"]})),
        "mount /x: invalid argument"
    );
    let missing = refusal(&|spec| spec["linux"]["sysctl"] = json!({"net.core.flavour": "sweet"}));
    assert_eq!(
        missing,
        "linux.sysctl: the guest's kernel has no setting \"net.core.flavour\": no such file or directory"
    );
    let shared = refusal(&|spec| spec["linux"]["sysctl"] = json!({"vm.swappiness": "1"}));
    assert_eq!(
        shared,
        "sysctl \"vm.swappiness\" is not in a separate kernel namespace"
    );
    let proc = std::path::Path::new(&root).join("proc");
    std::fs::remove_dir(&proc).unwrap();
    std::os::unix::fs::symlink("data", &proc).unwrap();
    let link = refusal(&|_| ());
    assert_eq!(
        link,
        "filesystem \"proc\" must be mounted on ordinary directory: /proc is a symbolic link"
    );
}
