//! Bad input: one error line that says what is wrong, runc's exit code, and
//! nothing left behind.

use std::fs;
use std::path::Path;
use std::process::Command;

use caisson_tests::{Bundle, Machine, Output, Scene, stories};
use serde_json::json;

stories![
    a_bundle_without_configuration,
    a_configuration_that_is_not_json,
    a_configuration_for_an_unknown_specification,
    a_configuration_that_lacks_what_every_container_needs,
    a_missing_root_file_system,
    a_name_that_cannot_be_one,
    a_name_that_is_taken,
    a_missing_guest_kernel,
    a_truncated_guest_kernel,
    a_guest_kernel_that_panics_before_it_has_a_console,
    kvm_without_permission,
    tcg_without_qemu.only(Machine::Tcg),
    a_full_state_folder,
    an_unwritable_pid_file,
    fields_that_cannot_be_applied_are_named,
    what_the_configuration_decides_is_refused_before_a_machine_is_looked_for,
    a_bind_mount_without_its_source,
    a_broken_configuration_of_the_host,
    the_log_gets_the_error_line_as_json,
];

fn create(scene: &Scene, bundle: &Bundle) -> Output {
    create_in(scene, &bundle.path, &bundle.id)
}

fn create_in(scene: &Scene, folder: &Path, id: &str) -> Output {
    scene.caisson(["create", "--bundle", folder.to_str().unwrap(), id])
}

fn a_bundle_without_configuration(scene: &Scene) {
    let folder = scene.path("empty");
    fs::create_dir(&folder).unwrap();
    let text = format!(
        "JSON specification file {}/config.json not found",
        folder.display()
    );
    create_in(scene, &folder, "x").fails(1, &text);
    let gone = scene.path("gone");
    let text = format!(
        "JSON specification file {}/config.json not found",
        gone.display()
    );
    create_in(scene, &gone, "x").fails(1, &text);
}

fn a_configuration_that_is_not_json(scene: &Scene) {
    let bundle = scene.bundle(&["true"]);
    let config = bundle.path.join("config.json");
    for (text, reason) in [
        ("{", "EOF while parsing an object at line 1 column 1"),
        ("", "EOF while parsing a value at line 1 column 0"),
        (
            "{\"ociVersion\": 1}",
            "invalid type: integer `1`, expected a string at line 1 column 16",
        ),
    ] {
        fs::write(&config, text).unwrap();
        create(scene, &bundle).fails(1, &format!("parse {}: {reason}", config.display()));
    }
}

fn a_configuration_for_an_unknown_specification(scene: &Scene) {
    let bundle = scene.bundle(&["true"]);
    for version in ["0.9.0", "2.0.0", "new"] {
        bundle.edit(|config| config["ociVersion"] = version.into());
        let text = format!("ociVersion {version:?} is not supported: caisson knows 1.0 to 1.3");
        create(scene, &bundle).fails(1, &text);
    }
}

fn a_configuration_that_lacks_what_every_container_needs(scene: &Scene) {
    for (member, field) in [("process", "process"), ("root", "root"), ("linux", "linux")] {
        let bundle = scene.bundle(&["true"]);
        bundle.edit(|config| {
            config.as_object_mut().unwrap().remove(member);
        });
        create(scene, &bundle).fails(1, &format!("config.json has no {field}"));
    }
    create(scene, &scene.bundle(&[])).fails(1, "config.json has no process.args");
}

fn a_missing_root_file_system(scene: &Scene) {
    let bundle = scene.bundle(&["true"]);
    bundle.edit(|config| config["root"]["path"] = "nothing".into());
    let path = bundle.path.join("nothing");
    create(scene, &bundle).fails(
        1,
        &format!("rootfs {}: no such file or directory", path.display()),
    );
    fs::write(&path, "").unwrap();
    create(scene, &bundle).fails(1, &format!("rootfs {}: not a directory", path.display()));
}

fn a_name_that_cannot_be_one(scene: &Scene) {
    let bundle = scene.bundle(&["true"]);
    for id in ["a/b", "..", "a b", "ä", ""] {
        let text =
            format!("invalid container ID format: {id:?} (letters, digits and _ + - . only)");
        create_in(scene, &bundle.path, id).fails(1, &text);
    }
}

fn a_name_that_is_taken(scene: &Scene) {
    let container = scene.create(&scene.bundle(&["sleep", "1000"]));
    let second = scene.bundle(&["true"]);
    let text = format!("container with given ID already exists: {}", container.id);
    create_in(scene, &second.path, &container.id).fails(1, &text);
    container.assert_status("created");
    container.start();
    container.remove();
}

/// An installation like the one under test, whose parts can be changed.
fn other_installation(scene: &Scene) -> std::path::PathBuf {
    let prefix = scene.path("prefix");
    let share = prefix.join("share/caisson");
    fs::create_dir_all(&share).unwrap();
    std::os::unix::fs::symlink(scene.settings.dist.join("libexec"), prefix.join("libexec"))
        .unwrap();
    fs::copy(
        scene.settings.dist.join("share/caisson/initramfs.cpio"),
        share.join("initramfs.cpio"),
    )
    .unwrap();
    let own = format!("prefix = \"{}\"\n", prefix.display());
    scene.configure(&own);
    share
}

fn a_missing_guest_kernel(scene: &Scene) {
    let share = other_installation(scene);
    let text = format!(
        "guest kernel not found at {}/vmlinux: install caisson again, or build one with `make kernel` or `make stock-kernel` (see `caisson doctor guest-kernel`)",
        share.display()
    );
    create(scene, &scene.bundle(&["true"])).fails(1, &text);
}

fn a_truncated_guest_kernel(scene: &Scene) {
    let path = other_installation(scene).join("vmlinux");
    let bundle = scene.bundle(&["true"]);
    fs::write(&path, b"\x7fELF").unwrap();
    let text = format!(
        "guest kernel {}: truncated: build it again with `make kernel` (see `caisson doctor guest-kernel`)",
        path.display()
    );
    create(scene, &bundle).fails(1, &text);
    fs::write(&path, [b'x'; 4096]).unwrap();
    let text = format!(
        "guest kernel {}: not an uncompressed x86-64 vmlinux (see `caisson doctor guest-kernel`)",
        path.display()
    );
    create(scene, &bundle).fails(1, &text);
    // Cut in the middle: the header is sound, the rest is missing.
    let whole = fs::read(scene.settings.dist.join("share/caisson/vmlinux")).unwrap();
    fs::write(&path, &whole[..1 << 20]).unwrap();
    let output = create(scene, &bundle);
    let line = output.error_line(1);
    assert!(
        line.contains("truncated") && line.contains("vmlinux"),
        "{line}"
    );
}

/// The archive inside the kernel is unpacked before there is any console.
fn a_guest_kernel_that_panics_before_it_has_a_console(scene: &Scene) {
    let path = other_installation(scene).join("vmlinux");
    let mut kernel = fs::read(scene.settings.dist.join("share/caisson/vmlinux")).unwrap();
    let header = b"07070100";
    let archive = kernel.windows(header.len()).position(|at| at == header);
    kernel[archive.unwrap()] = b'x';
    fs::write(&path, kernel).unwrap();
    let output = create(scene, &scene.bundle(&["true"]));
    let line = output.error_line(1);
    assert!(
        line.contains("the guest kernel panicked")
            && line.contains("Kernel panic - not syncing: invalid magic"),
        "{line}"
    );
}

/// Root may open anything, so the test takes the right to do so away.
fn kvm_without_permission(scene: &Scene) {
    let bundle = scene.bundle(&["true"]);
    bundle.edit(|config| config["annotations"] = json!({"dev.caisson.machine": "kvm"}));
    let create = scene.command([
        "create",
        "--bundle",
        bundle.path.to_str().unwrap(),
        &bundle.id,
    ]);
    let mut command = Command::new("/usr/bin/setpriv");
    command.args([
        "--bounding-set=-dac_override,-dac_read_search",
        "--inh-caps=-dac_override,-dac_read_search",
    ]);
    command.arg(create.get_program()).args(create.get_args());
    command.env("CAISSON_CONFIG", scene.path("config.toml"));
    // In the test's own mount namespace another file stands for the device.
    let forbidden = scene.path("kvm");
    fs::write(&forbidden, "").unwrap();
    fs::set_permissions(
        &forbidden,
        std::os::unix::fs::PermissionsExt::from_mode(0o000),
    )
    .unwrap();
    nix::mount::mount(
        Some(&forbidden),
        "/dev/kvm",
        None::<&str>,
        nix::mount::MsFlags::MS_BIND,
        None::<&str>,
    )
    .unwrap();
    let output = scene.output_of(command);
    nix::mount::umount("/dev/kvm").unwrap();
    output.fails(
        1,
        "/dev/kvm: permission denied: add this user to the group that owns it (often `kvm`) and log in again (see `caisson doctor kvm-access`)",
    );
}

fn tcg_without_qemu(scene: &Scene) {
    scene.configure("qemu = \"/nowhere/qemu\"\n");
    create(scene, &scene.bundle(&["true"])).fails(
        1,
        "qemu-system-x86_64 not found on PATH: install it (Debian: qemu-system-x86), or name it with `qemu` in the configuration (see `caisson doctor qemu`)",
    );
}

fn a_full_state_folder(scene: &Scene) {
    let folder = scene.state_folder();
    fs::create_dir(&folder).unwrap();
    let options = "size=4k,nr_inodes=8,mode=755";
    nix::mount::mount(
        Some("full"),
        &folder,
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        Some(options),
    )
    .unwrap();
    fs::write(folder.join("ballast"), [0; 4096]).unwrap();
    let bundle = scene.bundle(&["true"]);
    let output = create(scene, &bundle);
    fs::remove_file(folder.join("ballast")).unwrap();
    assert_eq!(
        fs::read_dir(&folder).unwrap().count(),
        0,
        "the state directory"
    );
    nix::mount::umount(&folder).unwrap();
    let text = format!(
        "write {}/{}/state.json: no space left on device",
        folder.display(),
        bundle.id
    );
    output.fails(1, &text);
}

fn an_unwritable_pid_file(scene: &Scene) {
    let bundle = scene.bundle(&["true"]);
    for verb in ["create", "run"] {
        let output = scene.caisson([
            verb,
            "--bundle",
            bundle.path.to_str().unwrap(),
            "--pid-file",
            "/nowhere/pid",
            &bundle.id,
        ]);
        output.fails(1, "write pid file /nowhere/pid: no such file or directory");
        scene.assert_nothing_is_left();
    }
}

fn fields_that_cannot_be_applied_are_named(scene: &Scene) {
    let cases = [
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent"}),
            "linux.seccomp.listenerPath",
        ),
        (
            "/process/selinuxLabel",
            json!("system_u:system_r:container_t:s0"),
            "process.selinuxLabel",
        ),
        (
            "/linux/resources",
            json!({"rdma": {"mlx": {"hcaHandles": 3}}}),
            "linux.resources.rdma",
        ),
    ];
    for (pointer, value, field) in cases {
        let bundle = scene.bundle(&["true"]);
        bundle.edit(|config| {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            config.pointer_mut(parent).unwrap()[name] = value;
        });
        let output = create(scene, &bundle);
        let start = format!("config.json: {field} is not supported: ");
        assert!(output.error_line(1).starts_with(&start), "{output:?}");
    }
    let bundle = scene.bundle(&["true"]);
    bundle.edit(|config| config["linux"]["namespaces"] = json!([{"type": "pid"}]));
    let output = create(scene, &bundle);
    assert!(
        output.error_line(1).contains("the host's network stack"),
        "{output:?}"
    );
    let bundle = scene.bundle(&["true"]);
    bundle.edit(|config| config["annotations"] = json!({"dev.caisson.machine": "xen"}));
    create(scene, &bundle).fails(
        1,
        "annotation dev.caisson.machine: \"xen\" is not a machine: use auto, kvm or tcg",
    );
}

/// Configurations that contradict themselves or hold a value that can't be, and what is
/// said of them.
fn impossible_configurations(scene: &Scene) -> Vec<(Bundle, &'static str)> {
    let add = |pointer: &str, value: serde_json::Value| {
        let bundle = scene.bundle(&["true"]);
        bundle.edit(|config| {
            let list = config.pointer_mut(pointer).unwrap();
            list.as_array_mut().unwrap().push(value);
        });
        bundle
    };
    let set = |pointer: &str, value: serde_json::Value| {
        let bundle = scene.bundle(&["true"]);
        bundle.edit(|config| {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            config.pointer_mut(parent).unwrap()[name] = value;
        });
        bundle
    };
    let limit = json!({"type": "RLIMIT_NOFILE", "soft": 9, "hard": 9});
    let long: Vec<String> = (0..60)
        .map(|n| format!("A{n}={}", "x".repeat(100_000)))
        .collect();
    let without_uts = json!([{"type": "pid"}, {"type": "network"}, {"type": "mount"}]);
    vec![
        (
            set("/linux/namespaces", without_uts),
            "unable to set hostname without a private UTS namespace",
        ),
        (
            set("/linux/sysctl", json!({"vm.swappiness": "1"})),
            "sysctl \"vm.swappiness\" is not in a separate kernel namespace",
        ),
        (
            set("/linux/sysctl", json!({"kernel.hostname": "x"})),
            "sysctl \"kernel.hostname\" is not allowed as it conflicts with the OCI \"hostname\" field",
        ),
        (
            add("/process/rlimits", limit),
            "process.rlimits: RLIMIT_NOFILE is given twice",
        ),
        (
            add("/mounts", json!({"destination": "/x", "source": "/tmp"})),
            "mounts: /x has neither a type nor the option bind",
        ),
        (
            add("/process/env", json!("A=\0b")),
            "environment variable value can't contain null(\\x00): \"A=\\0b\"",
        ),
        (
            add("/process/env", json!("X")),
            "invalid environment variable: \"X\"",
        ),
        (
            add("/linux/namespaces", json!({"type": "pid"})),
            "malformed spec file: duplicated ns \"pid\"",
        ),
        (
            set("/process/cwd", json!("tmp")),
            "Cwd must be an absolute path",
        ),
        (
            set("/process/env", json!(long)),
            "exec: \"true\": argument list too long",
        ),
    ]
}

/// There is no machine here, so whatever is refused otherwise would be refused for that.
fn what_the_configuration_decides_is_refused_before_a_machine_is_looked_for(scene: &Scene) {
    scene.configure("qemu = \"/nowhere/qemu\"\n");
    for (bundle, text) in impossible_configurations(scene) {
        create(scene, &bundle).fails(1, text);
    }
    let bundle = scene.bundle(&["true"]);
    bundle.with_terminal();
    let folder = bundle.path.to_str().unwrap();
    let socket = ["--console-socket", "/nowhere/socket"];
    let output = scene.caisson([&["create", "--bundle", folder][..], &socket, &["x"]].concat());
    output.fails(
        1,
        "console socket /nowhere/socket: no such file or directory",
    );
    let config = bundle.path.join("config.json");
    fs::write(&config, "[]").unwrap();
    let text = format!(
        "parse {}: it is no object, as the specification has it",
        config.display()
    );
    create(scene, &bundle).fails(1, &text);
    scene.assert_nothing_is_left();
}

fn a_bind_mount_without_its_source(scene: &Scene) {
    let bundle = scene.bundle(&["true"]);
    bundle.with_mount(json!({"destination": "/mnt", "type": "bind", "source": "/nowhere/at/all", "options": ["rbind"]}));
    create(scene, &bundle).fails(1, "share /nowhere/at/all: no such file or directory");
    scene.assert_nothing_is_left();
}

fn a_broken_configuration_of_the_host(scene: &Scene) {
    scene.configure("machin = 1\n");
    let output = create(scene, &scene.bundle(&["true"]));
    let start = format!(
        "{}: unknown field `machin`",
        scene.path("config.toml").display()
    );
    assert!(output.error_line(1).starts_with(&start), "{output:?}");
}

fn the_log_gets_the_error_line_as_json(scene: &Scene) {
    let log = scene.path("log.json");
    let bundle = scene.path("no-bundle");
    let arguments = [
        "--log",
        log.to_str().unwrap(),
        "--log-format",
        "json",
        "create",
        "--bundle",
        bundle.to_str().unwrap(),
        "x",
    ];
    let text = format!(
        "JSON specification file {}/config.json not found",
        bundle.display()
    );
    scene.caisson(arguments).fails(1, &text);
    let line: serde_json::Value = serde_json::from_str(&fs::read_to_string(&log).unwrap()).unwrap();
    assert_eq!(
        (&line["level"], &line["msg"]),
        (&json!("error"), &json!(text))
    );
    assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
}
