//! `caisson sandbox`, and the root in guest memory on which it is built.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use caisson_tests::{Output, Scene, stories, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

stories![
    a_command_sees_the_hosts_system_and_changes_memory_alone,
    private_files_are_not_there,
    what_is_opened_is_written_to,
    secrets_in_what_is_opened_are_covered,
    bad_requests_are_one_line,
    a_killed_sandbox_leaves_nothing,
    a_root_in_memory_keeps_its_share_as_it_is,
    a_root_in_memory_has_a_size,
    sizes_of_a_root_in_memory_are_checked,
];

/// Runs it in `directory`, with a home directory that is not the test's own.
fn sandbox(scene: &Scene, directory: &Path, arguments: &[&str]) -> Output {
    scene.output_of(command(scene, directory, arguments))
}

fn command(scene: &Scene, directory: &Path, arguments: &[&str]) -> Command {
    let mut command = scene.command([&["sandbox"], arguments].concat());
    command
        .current_dir(directory)
        .env("HOME", home(scene))
        .env("SECRET_TOKEN", "hidden")
        .stdin(Stdio::null());
    command
}

fn home(scene: &Scene) -> PathBuf {
    let home = scene.path("home");
    fs::create_dir_all(&home).unwrap();
    home
}

fn project(scene: &Scene) -> PathBuf {
    let project = scene.path("project");
    fs::create_dir_all(&project).unwrap();
    fs::write(project.join("file"), "old\n").unwrap();
    project
}

fn a_command_sees_the_hosts_system_and_changes_memory_alone(scene: &Scene) {
    let project = project(scene);
    let marker = format!("/usr/{}", scene.tag());
    let script = format!(
        "cat file; pwd; touch {marker} && echo written; touch new 2>/dev/null || echo read-only; \
         echo \"$SECRET_TOKEN-\"; hostname; exit 7"
    );
    let output = sandbox(scene, &project, &["--", "sh", "-c", &script]);
    output.exits(7);
    let wanted = format!(
        "old\n{}\nwritten\nread-only\n-\nsandbox\n",
        project.display()
    );
    assert_eq!(output.stdout, wanted);
    assert!(!Path::new(&marker).exists() && !project.join("new").exists());
    // The environment is what is named.
    let given = [
        "--env",
        "SECRET_TOKEN",
        "-e",
        "B=b",
        "--",
        "sh",
        "-c",
        "echo $SECRET_TOKEN$B",
    ];
    assert_eq!(sandbox(scene, &project, &given).ok(), "hiddenb\n");
    assert_eq!(scene.caisson(["list", "-q"]).ok(), "");
}

/// What only some users of the host may read, and everything that is not the system's.
fn private_files_are_not_there(scene: &Scene) {
    let project = project(scene);
    assert!(Path::new("/etc/shadow").exists() && Path::new("/root").exists());
    let script = "for path in /etc/shadow /home /root /var/log /mnt /boot /srv; do \
                  test -e $path && echo $path; done; ls -A /run $HOME; ls -d /etc/passwd";
    let output = sandbox(scene, &project, &["--", "sh", "-c", script]).ok();
    let home = home(scene).display().to_string();
    assert_eq!(output, format!("/run:\n\n{home}:\n/etc/passwd\n"));
}

fn what_is_opened_is_written_to(scene: &Scene) {
    let project = project(scene);
    let other = scene.path("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("given"), "given\n").unwrap();
    let other_text = other.display().to_string();
    let script =
        format!("echo new >file; cat {other_text}/given; touch {other_text}/x 2>&1 | tail -c 22");
    let arguments = ["--rw", ".", "--ro", &other_text, "--", "sh", "-c", &script];
    let output = sandbox(scene, &project, &arguments).ok();
    assert_eq!(output, "given\nRead-only file system\n");
    assert_eq!(fs::read_to_string(project.join("file")).unwrap(), "new\n");
    assert!(!other.join("x").exists());
}

fn secrets_in_what_is_opened_are_covered(scene: &Scene) {
    let home = home(scene);
    fs::create_dir(home.join(".ssh")).unwrap();
    fs::write(home.join(".ssh/id"), "key\n").unwrap();
    fs::write(home.join(".netrc"), "password\n").unwrap();
    fs::set_permissions(home.join(".netrc"), fs::Permissions::from_mode(0o600)).unwrap();
    let script = "ls -A; cat .netrc .ssh/* 2>/dev/null; touch .ssh/x 2>/dev/null || echo closed";
    let output = sandbox(scene, &home, &["--rw", ".", "--", "sh", "-c", script]).ok();
    assert_eq!(output, ".netrc\n.ssh\nclosed\n");
    let asked = [
        "--rw", ".", "--ro", ".ssh", "--", "cat", ".ssh/id", ".netrc",
    ];
    assert_eq!(sandbox(scene, &home, &asked).ok(), "key\n");
    // Without being opened, it is empty, and the caller is told.
    let output = sandbox(
        scene,
        &home,
        &["--", "sh", "-c", "ls -A; touch x && echo x"],
    );
    assert_eq!(output.stdout, "x\n");
    assert!(
        output.stderr.contains("holds your home directory"),
        "{}",
        output.stderr
    );
    assert!(!home.join("x").exists());
}

fn bad_requests_are_one_line(scene: &Scene) {
    let project = project(scene);
    let cases: [(&[&str], u8, &str); 7] = [
        (
            &["--rw", "/none/such", "--", "true"],
            1,
            "--rw /none/such: no such file or directory",
        ),
        (
            &["--ro", "/", "--", "true"],
            1,
            "--ro /: the root of the host is shown in parts only; name a directory below it",
        ),
        (
            &["--memory", "1x", "--", "true"],
            1,
            "--memory \"1x\" is not a size of 64m or more",
        ),
        (
            &["--cpus", "0", "--", "true"],
            1,
            "--cpus 0 is not a number from 0.01 to 1000",
        ),
        (
            &["--env", "=x", "--", "true"],
            1,
            "--env \"=x\" has no name",
        ),
        (
            &["--", "/no/such"],
            1,
            "exec: \"/no/such\": stat /no/such: no such file or directory",
        ),
        (
            &["--", "/etc/passwd"],
            1,
            "exec: \"/etc/passwd\": permission denied",
        ),
    ];
    for (arguments, code, text) in cases {
        sandbox(scene, &project, arguments).fails(code.into(), text);
    }
}

/// Whichever process is killed, the mounts and the bundle end with the last one.
fn a_killed_sandbox_leaves_nothing(scene: &Scene) {
    let project = project(scene);
    let ready = project.join("ready");
    let arguments = ["--rw", ".", "--", "sh", "-c", "touch ready; sleep 1000"];
    let mut running = command(scene, &project, &arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait::for_file(&ready);
    let pid = Pid::from_raw(running.id().try_into().unwrap());
    let listed = scene.caisson(["list", "-q"]).ok();
    let id = listed.trim();
    let state: Value = serde_json::from_str(&scene.caisson(["state", id]).ok()).unwrap();
    let owner = state["pid"].as_i64().unwrap().try_into().unwrap();
    kill(pid, Signal::SIGKILL).unwrap();
    running.wait().unwrap();
    assert!(wait::ends_within(owner, Duration::from_secs(60)));
    scene.caisson(["delete", id]).ok();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let bundles = format!("{}-sandbox", scene.state_folder().display());
    assert!(!mounts.contains(&bundles), "{mounts}");
    assert_eq!(fs::read_dir(bundles).unwrap().count(), 0);
}

fn in_memory(scene: &Scene, script: &str, size_mib: &str) -> caisson_tests::Bundle {
    let bundle = scene.shell(script);
    bundle.edit(|config| {
        config["annotations"] = json!({"dev.caisson.root-overlay-mib": size_mib});
    });
    bundle
}

fn a_root_in_memory_keeps_its_share_as_it_is(scene: &Scene) {
    let script = "echo new >/etc/made; rm /bin/true; mkdir /made; mv /etc/kept /etc/moved; \
                  cat /etc/made /etc/moved; grep -c virtiofs /proc/mounts; grep -o '^overlay / ' /proc/mounts";
    let bundle = in_memory(scene, script, "16");
    let rootfs = bundle.rootfs.clone();
    fs::create_dir_all(rootfs.join("etc")).unwrap();
    fs::write(rootfs.join("etc/kept"), "kept\n").unwrap();
    let output = scene.run(&bundle);
    assert_eq!(
        output.stdout, "new\nkept\n0\noverlay / \n",
        "{}",
        output.stderr
    );
    assert!(rootfs.join("bin/true").symlink_metadata().is_ok());
    for path in ["etc/made", "etc/moved", "made"] {
        assert!(!rootfs.join(path).exists(), "{path}");
    }
    // Read-only for the container all the same, with mount points that the root lacks.
    bundle.edit(|config| {
        config["root"]["readonly"] = true.into();
        config["process"]["args"] =
            json!(["sh", "-c", "touch /x; ls /lacking/point; cat /etc/kept"]);
    });
    let data = scene.path("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("inside"), "").unwrap();
    bundle.with_mount(json!({
        "destination": "/lacking/point", "type": "bind", "source": data, "options": ["rbind"],
    }));
    let output = scene.run(&bundle);
    assert_eq!(output.stdout, "inside\nkept\n");
    assert!(
        output.stderr.contains("Read-only file system"),
        "{}",
        output.stderr
    );
    assert!(!rootfs.join("lacking").exists());
}

fn a_root_in_memory_has_a_size(scene: &Scene) {
    let script = "dd if=/dev/zero of=/big bs=1M count=9 2>&1 | grep -o 'No space left on device'; \
                  rm /big; dd if=/dev/zero of=/big bs=1M count=7 2>/dev/null && echo fits";
    let output = scene.run(&in_memory(scene, script, "8")).ok();
    assert_eq!(output, "No space left on device\nfits\n");
}

fn sizes_of_a_root_in_memory_are_checked(scene: &Scene) {
    for wrong in ["0", "-1", "+8", "8m", "", "1048577", "99999999999"] {
        let text = format!(
            "annotation dev.caisson.root-overlay-mib: {wrong:?} is not a number of MiB from 1 to 1048576"
        );
        scene.run(&in_memory(scene, "true", wrong)).fails(1, &text);
    }
}
