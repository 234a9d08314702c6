//! One file of the host is one file in the guest, however many paths lead to it: locks
//! exclude each other, and what is written by one path is read by another.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use caisson_tests::{Bundle, Scene, stories, wait};
use serde_json::{Value, json};

use crate::mounts::bind;
use crate::shim::Shim;

stories![
    a_directory_bound_twice_is_one_file_system.smoke(),
    a_directory_and_a_part_of_it_are_one_file_system,
    a_file_bound_twice_is_one_file,
    mounts_of_the_host_that_show_one_directory_are_one_file_system,
    what_is_read_only_below_one_bind_is_not_opened_by_another,
    the_root_bound_again_is_the_root,
    of_one_directory_only_the_read_only_bind_refuses_writes,
    a_writable_part_of_a_read_only_tree_opens_nothing_else,
    a_pod_has_one_file_system_for_a_volume,
    a_volume_outlives_the_container_that_brought_it,
];

/// A directory on the host with `sub/f`, which has one line.
fn volume(scene: &Scene) -> PathBuf {
    let volume = scene.path(&format!("volume-{}", scene.number()));
    fs::create_dir_all(volume.join("sub")).unwrap();
    fs::write(volume.join("sub/f"), "kept\n").unwrap();
    volume
}

/// What a container does with the file of two paths, and says if they are one.
fn script(one: &str, other: &str) -> String {
    format!(
        "rm -f /tmp/held; probe hold-locks {one} /tmp/held & \
         until test -e /tmp/held; do :; done; probe try-locks {other}; kill $!; \
         cp {one} {other} 2>&1 | grep -o 'are the same file'; cat {other}; \
         exec 8<{other}; cat <&8 >/dev/null; echo written >>{one}; cat <&8"
    )
}

const EXCLUDED: &str = "record false, whole false\n";
const ONE: &str = "record false, whole false\nare the same file\nkept\nwritten\n";

fn are_one(scene: &Scene, bundle: &Bundle, volume: &Path) {
    assert_eq!(scene.run(bundle).ok(), ONE);
    let file = fs::read_to_string(volume.join("sub/f")).unwrap();
    assert_eq!(file, "kept\nwritten\n");
}

fn a_directory_bound_twice_is_one_file_system(scene: &Scene) {
    let bundle = scene.shell(&script("/B/sub/f", "/C/sub/f"));
    let volume = volume(scene);
    bundle.with_mount(bind("/B", &volume, &["rbind"]));
    bundle.with_mount(bind("/C", &volume, &["bind", "nosuid", "noexec"]));
    are_one(scene, &bundle, &volume);
}

/// The part may come first, or by a link.
fn a_directory_and_a_part_of_it_are_one_file_system(scene: &Scene) {
    for part_first in [true, false] {
        let bundle = scene.shell(&script("/all/sub/f", "/part/f"));
        let volume = volume(scene);
        let link = volume.with_extension("link");
        symlink(volume.join("sub"), &link).unwrap();
        let mut mounts = [
            bind("/all", &volume, &["rbind"]),
            bind("/part", &link, &["rbind", "rprivate"]),
        ];
        if part_first {
            mounts.reverse();
        }
        for mount in mounts {
            bundle.with_mount(mount);
        }
        are_one(scene, &bundle, &volume);
    }
}

/// Also under another name of it, and beside its directory.
fn a_file_bound_twice_is_one_file(scene: &Scene) {
    for with_directory in [false, true] {
        let bundle = scene.shell(&script("/one", "/other"));
        let volume = volume(scene);
        fs::hard_link(volume.join("sub/f"), volume.join("hard")).unwrap();
        bundle.with_mount(bind("/one", &volume.join("sub/f"), &["bind"]));
        bundle.with_mount(bind("/other", &volume.join("hard"), &["bind"]));
        if with_directory {
            bundle.with_mount(bind("/all", &volume, &["bind"]));
        }
        are_one(scene, &bundle, &volume);
    }
}

/// As a kubelet binds the `subPath` of a volume elsewhere; below the volume lies another
/// mount.
fn mounts_of_the_host_that_show_one_directory_are_one_file_system(scene: &Scene) {
    let bundle = scene.shell(&format!(
        "{}; grep -c ' /all/below ' /proc/mounts; touch /all/below/x",
        script("/all/sub/f", "/part/f")
    ));
    let volume = volume(scene);
    let elsewhere = volume.with_extension("elsewhere");
    let mount = format!(
        "mkdir -p {0} {1}/below; mount --bind {1}/sub {0}; mount -t tmpfs none {1}/below",
        elsewhere.display(),
        volume.display()
    );
    let env = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-ec", mount], "env": env});
    bundle.edit(|config| config["hooks"]["createContainer"] = json!([hook]));
    bundle.with_mount(bind("/part", &elsewhere, &["rbind"]));
    bundle.with_mount(bind("/all", &volume, &["rbind"]));
    assert_eq!(scene.run(&bundle).ok(), format!("{ONE}1\n"));
}

/// Two trees of mounts show the same directory, and differ in a mount below alone.
fn what_is_read_only_below_one_bind_is_not_opened_by_another(scene: &Scene) {
    let bundle = scene.shell(
        "touch /open/below/x && echo written; touch /shut/below/y 2>/dev/null || echo refused",
    );
    let volume = volume(scene);
    let elsewhere = volume.with_extension("elsewhere");
    let mount = format!(
        "mkdir -p {0} {1}/below; mount -t tmpfs none {1}/below; mount --rbind {1} {0}; \
         mount -o remount,bind,ro {0}/below",
        elsewhere.display(),
        volume.display()
    );
    let env = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-ec", mount], "env": env});
    bundle.edit(|config| config["hooks"]["createContainer"] = json!([hook]));
    bundle.with_mount(bind("/open", &volume, &["rbind"]));
    bundle.with_mount(bind("/shut", &elsewhere, &["rbind"]));
    assert_eq!(scene.run(&bundle).ok(), "written\nrefused\n");
}

/// By a path that does not begin with the root's, and by one above it.
fn the_root_bound_again_is_the_root(scene: &Scene) {
    for above in [false, true] {
        let bundle = scene.bundle(&["true"]);
        let name = bundle.rootfs.file_name().unwrap().to_str().unwrap();
        let (source, path) = if above {
            (
                bundle.rootfs.parent().unwrap().to_owned(),
                format!("/again/{name}"),
            )
        } else {
            let link = scene.path("link-to-root");
            symlink(&bundle.rootfs, &link).unwrap();
            (link, "/again".to_owned())
        };
        let file = format!("root-{above}");
        fs::write(bundle.rootfs.join(&file), "kept\n").unwrap();
        let script = script(&format!("/{file}"), &format!("{path}/{file}"));
        bundle.edit(|config| config["process"]["args"] = json!(["sh", "-c", script]));
        bundle.with_mount(bind("/again", &source, &["rbind"]));
        assert_eq!(scene.run(&bundle).ok(), ONE);
    }
}

fn of_one_directory_only_the_read_only_bind_refuses_writes(scene: &Scene) {
    let options: [&[&str]; 3] = [&["rbind", "ro"], &["rbind", "rro"], &["bind", "ro"]];
    for read_only in options {
        let bundle = scene.shell(
            "touch /ro/x 2>&1; touch /part/x 2>&1; echo new >/rw/sub/f; cat /ro/sub/f /part/f",
        );
        let volume = volume(scene);
        bundle.with_mount(bind("/ro", &volume, read_only));
        bundle.with_mount(bind("/rw", &volume, &["rbind"]));
        bundle.with_mount(bind("/part", &volume.join("sub"), read_only));
        let refused = |path: &str| format!("touch: {path}/x: Read-only file system\n");
        let wanted = format!("{}{}new\nnew\n", refused("/ro"), refused("/part"));
        assert_eq!(scene.run(&bundle).ok(), wanted, "{read_only:?}");
    }
}

/// They are two shares: the host itself goes on to refuse writes to the tree.
fn a_writable_part_of_a_read_only_tree_opens_nothing_else(scene: &Scene) {
    let bundle = scene.shell(
        "mount -o remount,bind,rw /tree; touch /tree/x 2>&1; touch /tree/sub/x 2>&1; \
         touch /part/x && echo part",
    );
    let volume = volume(scene);
    bundle.privileged();
    bundle.with_mount(bind("/tree", &volume, &["rbind", "ro"]));
    bundle.with_mount(bind("/part", &volume.join("sub"), &["rbind"]));
    let wanted = "touch: /tree/x: Read-only file system\n\
                  touch: /tree/sub/x: Read-only file system\npart\n";
    assert_eq!(scene.run(&bundle).ok(), wanted);
}

fn in_pod(scene: &Scene, mounts: &[Value]) -> Bundle {
    let bundle = scene.shell("sleep 1000");
    bundle.edit(|config| config["annotations"] = json!({"dev.caisson.group": scene.tag()}));
    for mount in mounts {
        bundle.with_mount(mount.clone());
    }
    bundle
}

fn told_by(shim: &Shim<'_>, bundle: &Bundle, exec: &str, script: &str) -> String {
    shim.add_exec(&bundle.id, exec, script).unwrap();
    shim.start_process(&bundle.id, exec);
    shim.wait(&bundle.id, exec);
    fs::read_to_string(shim.output_of(&bundle.id, exec)).unwrap()
}

/// Holds locks of the volume's file until the container ends.
fn hold_locks(shim: &Shim<'_>, bundle: &Bundle, volume: &Path) {
    let hold = "probe hold-locks /v/sub/f /v/held";
    shim.add_exec(&bundle.id, "hold", hold).unwrap();
    shim.start_process(&bundle.id, "hold");
    wait::for_file(&volume.join("held"));
}

fn begin(shim: &Shim<'_>, bundle: &Bundle) {
    shim.create(bundle);
    shim.start_process(&bundle.id, "");
}

fn end(shim: &Shim<'_>, bundle: &Bundle) {
    shim.kill(&bundle.id).unwrap();
    assert_eq!(shim.wait(&bundle.id, ""), 137);
    assert_eq!(shim.delete(&bundle.id), 137);
}

/// The first sees the volume read-only, the second may write, the third has a part.
fn a_pod_has_one_file_system_for_a_volume(scene: &Scene) {
    let volume = volume(scene);
    let bundles = [
        in_pod(scene, &[bind("/v", &volume, &["rbind", "ro"])]),
        in_pod(scene, &[bind("/v", &volume, &["rbind"])]),
        in_pod(scene, &[bind("/part", &volume.join("sub"), &["rbind"])]),
    ];
    let [first, second, third] = &bundles;
    let shim = Shim::start(scene, first);
    bundles.iter().for_each(|bundle| begin(&shim, bundle));
    hold_locks(&shim, second, &volume);
    let tried = told_by(&shim, third, "a", "probe try-locks /part/f");
    assert_eq!(tried, EXCLUDED);
    // Both open it before either writes.
    let follow = "exec 8</v/sub/f; cat <&8 >/dev/null; touch /tmp/reads; \
                  until test -s /tmp/reads; do :; done; cat <&8";
    shim.add_exec(&first.id, "follow", follow).unwrap();
    shim.start_process(&first.id, "follow");
    wait::for_file(&first.rootfs.join("tmp/reads"));
    let write = "echo written >>/part/f; echo go >/tmp/reads";
    assert_eq!(told_by(&shim, third, "write", write), "");
    assert_eq!(shim.wait(&first.id, "follow"), 0);
    let followed = fs::read_to_string(shim.output_of(&first.id, "follow")).unwrap();
    assert_eq!(followed, "written\n");
    let write = "touch /v/x && echo written";
    assert_eq!(told_by(&shim, second, "b", write), "written\n");
    let refused = "touch: /v/x: Read-only file system\n";
    assert_eq!(told_by(&shim, first, "b", write), refused);
    for bundle in [third, second, first] {
        end(&shim, bundle);
    }
    shim.shut_down();
}

fn a_volume_outlives_the_container_that_brought_it(scene: &Scene) {
    let volume = volume(scene);
    let with_volume = || in_pod(scene, &[bind("/v", &volume, &["rbind"])]);
    let [first, brings, stays, comes] = [
        in_pod(scene, &[]),
        with_volume(),
        with_volume(),
        with_volume(),
    ];
    let shim = Shim::start(scene, &first);
    for bundle in [&first, &brings, &stays] {
        begin(&shim, bundle);
    }
    end(&shim, &brings);
    begin(&shim, &comes);
    // Also one whose name the share still has.
    begin(&shim, &brings);
    hold_locks(&shim, &stays, &volume);
    for bundle in [&comes, &brings] {
        let tried = told_by(&shim, bundle, "a", "probe try-locks /v/sub/f");
        assert_eq!(tried, EXCLUDED);
    }
    for bundle in [&stays, &comes, &brings, &first] {
        end(&shim, bundle);
    }
    shim.shut_down();
}
