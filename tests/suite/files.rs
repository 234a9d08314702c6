//! Files behave like files, and are the same ones on both sides.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use caisson_tests::{Bundle, Scene, stories, wait};
use serde_json::json;

stories![
    files_are_made_renamed_linked_and_removed,
    extended_attributes_are_kept,
    a_shared_mapping_is_the_file,
    locks_exclude_other_processes,
    sparse_files_stay_sparse,
    many_small_files.limit(300),
    deep_paths_work,
    ownership_and_modes_are_equal_on_both_sides,
    what_the_host_writes_the_guest_reads_and_back,
    a_read_only_mount_refuses_on_both_sides,
    a_read_only_root_refuses_on_both_sides,
    a_single_file_can_be_mounted,
    a_tmpfs_is_the_guests_own,
];

/// A directory on the host, mounted at /mnt.
fn shared(scene: &Scene, bundle: &Bundle, options: &[&str]) -> std::path::PathBuf {
    let folder = scene.path(&format!("shared-{}", scene.number()));
    fs::create_dir(&folder).unwrap();
    bundle.with_mount(
        json!({"destination": "/mnt", "type": "bind", "source": folder, "options": options}),
    );
    folder
}

fn files_are_made_renamed_linked_and_removed(scene: &Scene) {
    let bundle = scene.shell(
        "set -e; cd /mnt; echo one >a; mv a b; ln b hard; ln -s b soft; readlink soft; cat soft; \
         stat -c %h b; mkdir -p x/y; mv b x/y/c; cat hard; ln -sf x/y/c soft; cat soft; \
         echo two >x/y/c; cat hard; rm hard; stat -c %h x/y/c; mkfifo pipe; \
         ! rmdir x 2>/dev/null; rm -r x; ls; mv pipe renamed; ls",
    );
    let folder = shared(scene, &bundle, &["rbind"]);
    let wanted = "b\none\n2\none\none\ntwo\n1\npipe\nsoft\nrenamed\nsoft\n";
    assert_eq!(scene.run(&bundle).ok(), wanted);
    assert!(
        fs::symlink_metadata(folder.join("renamed"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
    assert_eq!(
        fs::read_link(folder.join("soft")).unwrap(),
        Path::new("x/y/c")
    );
}

fn extended_attributes_are_kept(scene: &Scene) {
    let bundle = scene.shell("cp /bin/busybox /mnt/file && probe xattrs /mnt/file");
    let folder = shared(scene, &bundle, &["rbind"]);
    assert_eq!(scene.run(&bundle).ok(), "user.colour\n");
    let mut value = [0; 16];
    let length = rustix::fs::getxattr(folder.join("file"), "user.colour", &mut value).unwrap();
    assert_eq!(&value[..length], b"blue");
}

fn a_shared_mapping_is_the_file(scene: &Scene) {
    let bundle = scene.shell("dd if=/dev/zero of=/mnt/file bs=4096 count=5 2>/dev/null && probe mapping /mnt/file marked");
    let folder = shared(scene, &bundle, &["rbind"]);
    assert_eq!(scene.run(&bundle).ok(), "mapped 20480\n");
    let content = fs::read(folder.join("file")).unwrap();
    assert!(content.starts_with(b"marked") && content.ends_with(b"marked"));
}

fn locks_exclude_other_processes(scene: &Scene) {
    let bundle = scene.bundle(&["probe", "hold-locks", "/mnt/lock", "/mnt/held"]);
    let folder = shared(scene, &bundle, &["rbind"]);
    let container = scene.started(&bundle);
    wait::for_file(&folder.join("held"));
    let held = container.exec(&["probe", "try-locks", "/mnt/lock"]).ok();
    assert_eq!(held, "record false, whole false\n");
    let free = container.exec(&["probe", "try-locks", "/mnt/held"]).ok();
    assert_eq!(free, "record true, whole true\n");
    container.remove();
}

fn sparse_files_stay_sparse(scene: &Scene) {
    let script = "dd if=/dev/zero of=/mnt/big bs=1 count=1 seek=1073741823 2>/dev/null; stat -c %s /mnt/big; du -k /mnt/big | cut -f1";
    let bundle = scene.shell(script);
    let folder = shared(scene, &bundle, &["rbind"]);
    let output = scene.run(&bundle).ok();
    let numbers: Vec<u64> = output
        .split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect();
    assert_eq!(numbers[0], 1 << 30);
    assert!(numbers[1] < 1024, "{} KiB are used", numbers[1]);
    let on_host = fs::metadata(folder.join("big")).unwrap();
    assert_eq!(on_host.len(), 1 << 30);
    assert!(on_host.blocks() < 2048);
}

fn many_small_files(scene: &Scene) {
    let count = scene.settings.count(10_000);
    let bundle = scene.bundle(&["probe", "small-files", "/mnt", &count.to_string()]);
    let folder = shared(scene, &bundle, &["rbind"]);
    assert_eq!(scene.run(&bundle).ok(), format!("made {count}\n"));
    let folders = fs::read_dir(&folder).unwrap().flatten();
    let left: usize = folders
        .map(|entry| fs::read_dir(entry.path()).unwrap().count())
        .sum();
    assert_eq!(left, count / 2);
    assert_eq!(fs::read_to_string(folder.join("0/1")).unwrap(), "file 1");
}

fn deep_paths_work(scene: &Scene) {
    let part = "d".repeat(100);
    let script = format!(
        "set -e; cd /mnt; i=0; while [ $i -lt 35 ]; do mkdir {part}; cd {part}; i=$((i+1)); done; \
         echo deep >leaf; cat leaf; cd /mnt; find . | wc -l; touch $(printf 'n%.0s' $(seq 1 255)); ls | wc -l"
    );
    let bundle = scene.shell(&script);
    let _folder = shared(scene, &bundle, &["rbind"]);
    assert_eq!(scene.run(&bundle).ok(), "deep\n37\n2\n");
}

fn ownership_and_modes_are_equal_on_both_sides(scene: &Scene) {
    let bundle = scene.shell(
        "set -e; cd /mnt; stat -c '%n %u %g %a' given; touch made; chown 1234:5678 made; chmod 4751 made; \
         mkdir sticky; chmod 1777 sticky; touch -d '2001-02-03 04:05:06' made; stat -c %Y made; umask 027; touch masked",
    );
    bundle.privileged();
    let folder = shared(scene, &bundle, &["rbind"]);
    let given = folder.join("given");
    fs::write(&given, "").unwrap();
    fs::set_permissions(&given, fs::Permissions::from_mode(0o2640)).unwrap();
    std::os::unix::fs::chown(&given, Some(4321), Some(8765)).unwrap();
    fs::set_permissions(&given, fs::Permissions::from_mode(0o2640)).unwrap();
    let output = scene.run(&bundle).ok();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], "given 4321 8765 2640");
    let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().mode() & 0o7777;
    let made = fs::metadata(folder.join("made")).unwrap();
    assert_eq!((made.uid(), made.gid(), mode("made")), (1234, 5678, 0o4751));
    assert_eq!(made.mtime().to_string(), lines[1]);
    assert_eq!((mode("sticky"), mode("masked")), (0o1777, 0o640));
}

fn what_the_host_writes_the_guest_reads_and_back(scene: &Scene) {
    let bundle = scene.bundle(&["sleep", "1000"]);
    let folder = shared(scene, &bundle, &["rbind"]);
    let container = scene.started(&bundle);
    for number in 0..3 {
        let (inward, outward) = (format!("in-{number}"), format!("out-{number}"));
        fs::write(folder.join(&inward), &inward).unwrap();
        assert_eq!(
            container.exec(&["cat", &format!("/mnt/{inward}")]).ok(),
            inward
        );
        container
            .exec(&["sh", "-c", &format!("echo {outward} >/mnt/{outward}")])
            .ok();
        assert_eq!(
            fs::read_to_string(folder.join(&outward)).unwrap(),
            format!("{outward}\n")
        );
    }
    // A change of a file that the guest has read already.
    fs::write(folder.join("in-0"), "changed on the host").unwrap();
    let changed = "until grep -q changed /mnt/in-0; do sleep 0.1; done";
    container.exec(&["timeout", "10", "sh", "-c", changed]).ok();
    fs::remove_file(folder.join("in-1")).unwrap();
    let removed = "while [ -e /mnt/in-1 ]; do sleep 0.1; done";
    container.exec(&["timeout", "10", "sh", "-c", removed]).ok();
    container.remove();
}

/// Even a guest whose own mount is made writable again is refused.
fn a_read_only_mount_refuses_on_both_sides(scene: &Scene) {
    let bundle = scene.shell(
        "cat /mnt/file; echo x >/mnt/file; touch /mnt/new; mount -o remount,rw /mnt && echo remounted; \
         mount -o remount,rw,bind /mnt && echo remounted; echo x >/mnt/file; touch /mnt/new; chmod 777 /mnt/file; rm /mnt/file",
    );
    bundle.privileged();
    let folder = shared(scene, &bundle, &["rbind", "ro"]);
    fs::write(folder.join("file"), "whole").unwrap();
    let output = scene.run(&bundle);
    assert!(output.stdout.starts_with("whole"), "{output:?}");
    assert_eq!(
        output.stderr.matches("Read-only file system").count(),
        6,
        "{output:?}"
    );
    assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), "whole");
    assert!(!folder.join("new").exists());
}

fn a_read_only_root_refuses_on_both_sides(scene: &Scene) {
    let bundle = scene.shell(
        "touch /new; mount -o remount,rw /; mount -o remount,rw,bind /; touch /new; rm /bin/probe",
    );
    bundle.privileged();
    bundle.edit(|config| config["root"]["readonly"] = true.into());
    let output = scene.run(&bundle);
    assert!(
        output.stderr.matches("Read-only file system").count() >= 3,
        "{output:?}"
    );
    assert!(!bundle.rootfs.join("new").exists() && bundle.rootfs.join("bin/probe").exists());
}

fn a_single_file_can_be_mounted(scene: &Scene) {
    let bundle = scene.shell("cat /etc/hosts; echo added >>/etc/hosts");
    let file = scene.path("hosts");
    fs::write(&file, "first\n").unwrap();
    symlink(&file, scene.path("link")).unwrap();
    bundle.with_mount(json!({"destination": "/etc/hosts", "type": "bind", "source": scene.path("link"), "options": ["bind"]}));
    assert_eq!(scene.run(&bundle).ok(), "first\n");
    assert_eq!(fs::read_to_string(&file).unwrap(), "first\nadded\n");
}

fn a_tmpfs_is_the_guests_own(scene: &Scene) {
    let bundle = scene.shell("stat -f -c %T /scratch; touch /scratch/file; df -k /scratch | tail -n 1 | awk '{ print $2 }'");
    bundle.with_mount(json!({"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["size=8m"]}));
    assert_eq!(scene.run(&bundle).ok(), "tmpfs\n8192\n");
    assert!(!bundle.rootfs.join("scratch/file").exists());
}
