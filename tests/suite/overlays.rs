//! Mounts of type `overlay`: directories of the host over each other, as engines make
//! them of a volume that shall keep nothing (`podman run -v DIR:/low:O`).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use caisson_tests::{Scene, stories};
use serde_json::{Value, json};

stories![
    directories_lie_over_each_other_and_are_read_only,
    changes_go_to_the_upper_directory,
    options_of_the_mount_are_those_of_the_bind,
    what_an_overlay_lacks_is_named,
];

fn overlay(options: &[&str]) -> Value {
    json!({"destination": "/low", "type": "overlay", "source": "overlay", "options": options})
}

/// A directory of the host with one file, beside others.
fn layer(scene: &Scene, name: &str) -> PathBuf {
    let layer = scene.path(&format!("layers-{}", scene.number())).join(name);
    fs::create_dir_all(&layer).unwrap();
    fs::write(layer.join(format!("of-{name}")), format!("{name}\n")).unwrap();
    fs::write(layer.join("both"), format!("{name}\n")).unwrap();
    layer
}

/// One of them has a colon in its name, another is a link.
fn directories_lie_over_each_other_and_are_read_only(scene: &Scene) {
    let bundle = scene.shell("cd /low; ls; cat both of-b; touch x 2>&1");
    let (top, bottom) = (layer(scene, "a:a"), layer(scene, "b"));
    let link = bottom.with_file_name("link");
    symlink(&bottom, &link).unwrap();
    let top = top.display().to_string().replace(':', "\\:");
    let lower = format!("lowerdir={top}:{}", link.display());
    bundle.with_mount(overlay(&[&lower, "private"]));
    let wanted = "both\nof-a:a\nof-b\na:a\nb\ntouch: x: Read-only file system\n";
    assert_eq!(scene.run(&bundle).stdout, wanted);
}

fn with_upper(lower: &Path) -> (String, PathBuf) {
    let [upper, work] = ["upper", "work"].map(|name| lower.with_file_name(name));
    for path in [&upper, &work] {
        fs::create_dir(path).unwrap();
    }
    let [lower, above, work] = [lower, &upper, &work].map(|path| path.display().to_string());
    (
        format!("lowerdir={lower},upperdir={above},workdir={work}"),
        upper,
    )
}

fn changes_go_to_the_upper_directory(scene: &Scene) {
    let bundle = scene.shell(
        "cd /low; cat both; echo new >both; echo more >made; mv of-l moved; rmdir empty; ls; cat both",
    );
    let lower = layer(scene, "l");
    fs::create_dir(lower.join("empty")).unwrap();
    let (options, upper) = with_upper(&lower);
    let options: Vec<&str> = options.split(',').chain(["rprivate"]).collect();
    bundle.with_mount(overlay(&options));
    assert_eq!(scene.run(&bundle).ok(), "l\nboth\nmade\nmoved\nnew\n");
    let read = |path: PathBuf| fs::read_to_string(path).unwrap();
    assert_eq!(
        read(lower.join("both")) + &read(upper.join("both")),
        "l\nnew\n"
    );
    assert!(upper.join("made").exists() && upper.join("moved").exists());
    assert!(lower.join("empty").exists() && lower.join("of-l").exists());
}

fn options_of_the_mount_are_those_of_the_bind(scene: &Scene) {
    let bundle = scene.shell("cd /low; touch x 2>&1; ./busybox true 2>&1");
    let lower = layer(scene, "l");
    fs::copy(bundle.rootfs.join("bin/busybox"), lower.join("busybox")).unwrap();
    let (options, upper) = with_upper(&lower);
    let options: Vec<&str> = options.split(',').chain(["ro", "noexec"]).collect();
    bundle.with_mount(overlay(&options));
    bundle.edit(|config| config["root"]["readonly"] = json!(true));
    let output = scene.run(&bundle).stdout;
    assert!(
        output.starts_with("touch: x: Read-only file system\n"),
        "{output}"
    );
    assert!(output.ends_with("Permission denied\n"), "{output}");
    assert_eq!(fs::read_dir(upper).unwrap().count(), 0);
}

fn what_an_overlay_lacks_is_named(scene: &Scene) {
    let lower = layer(scene, "l");
    let missing = lower.with_file_name("missing");
    let [lower, missing] = [lower, missing].map(|path| path.display().to_string());
    let kernels = "it leads to /proc/sys, which shows the host's kernel (proc); a source spelled /proc, /sys or /dev, or below, is the guest's own";
    let cases = [
        (
            vec![format!("lowerdir={lower}:{missing}")],
            format!("share lowerdir {missing}: no such file or directory"),
        ),
        (
            vec![
                format!("lowerdir={lower}"),
                format!("upperdir={missing}"),
                format!("workdir={lower}"),
            ],
            format!("share upperdir {missing}: no such file or directory"),
        ),
        (
            vec![format!("lowerdir={lower}/both:{lower}")],
            format!("share lowerdir {lower}/both: not a directory"),
        ),
        (
            vec![format!("lowerdir={lower}:/proc/sys")],
            format!("share lowerdir /proc/sys: {kernels}"),
        ),
        (
            vec![format!("lowerdir={lower}")],
            format!("share overlay of {lower}: mount the overlay: invalid argument"),
        ),
        (
            vec!["ro".to_owned()],
            "mounts: /low: an overlay needs the option lowerdir".to_owned(),
        ),
    ];
    for (options, line) in cases {
        let bundle = scene.bundle(&["true"]);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        bundle.with_mount(overlay(&options));
        scene.run(&bundle).fails(1, &line);
    }
}
