//! Which barrier a container gets: never a weaker one than the administrator allows, and
//! never a weaker one in silence.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use caisson_tests::output::EMULATION_WARNING;
use caisson_tests::{Bundle, Machine, Scene, stories};
use nix::mount::{MsFlags, mount, umount};
use serde_json::json;

stories![
    without_kvm_nothing_runs_unless_emulation_is_allowed.only(Machine::Tcg),
    an_emulated_start_is_told.only(Machine::Tcg).smoke(),
    an_annotation_chooses_only_what_the_configuration_allows,
    a_machine_is_no_larger_than_the_configuration_allows,
];

/// /dev/kvm as where the driver does not work, until dropped.
struct NoKvm;

impl NoKvm {
    fn make() -> Option<Self> {
        let kvm = PathBuf::from("/dev/kvm");
        if !kvm.exists() {
            return None;
        }
        // Only the test sees it: device nodes can't be opened on such a mount.
        mount(
            Some(&kvm),
            &kvm,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .unwrap();
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NODEV;
        mount(None::<&str>, &kvm, None::<&str>, flags, None::<&str>).unwrap();
        Some(Self)
    }
}

impl Drop for NoKvm {
    fn drop(&mut self) {
        umount("/dev/kvm").unwrap();
    }
}

fn without_kvm_nothing_runs_unless_emulation_is_allowed(scene: &Scene) {
    let without = NoKvm::make();
    let bundle = scene.bundle(&["true"]);
    scene.configure("machine = \"auto\"\n");
    let refused = scene.run(&bundle);
    let line = refused.error_line(1);
    let config = scene.path("config.toml").display().to_string();
    for words in [
        "/dev/kvm",
        "`allow_emulation = true`",
        "`machine = \"tcg\"`",
        &config,
    ] {
        assert!(line.contains(words), "{line}");
    }
    drop(without);
    scene.assert_nothing_is_left();
    let without = NoKvm::make();
    scene.configure("machine = \"auto\"\nallow_emulation = true\n");
    scene.run(&bundle).exits(0);
    drop(without);
}

/// What `verb` writes to standard error and, with `log`, to that file.
fn told(scene: &Scene, (verb, bundle): (&str, &Bundle), log: bool) -> [String; 2] {
    let [log_file, stderr] = ["log", "told"].map(|name| scene.path(name));
    fs::write(&log_file, "").unwrap();
    let options = ["--log", log_file.to_str().unwrap()];
    let options: &[&str] = if log { &options } else { &[] };
    let folder = bundle.path.to_str().unwrap();
    let rest = [verb, "--bundle", folder, &bundle.id];
    let mut command: Command = scene.command([options, &rest].concat());
    command.stdout(Stdio::null());
    command.stderr(fs::File::create(&stderr).unwrap());
    assert!(command.status().unwrap().success());
    [stderr, log_file].map(|path| fs::read_to_string(path).unwrap())
}

fn an_emulated_start_is_told(scene: &Scene) {
    let bundle = scene.bundle(&["true"]);
    let is_the_warning = |text: &str| text.lines().count() == 1 && text.contains(EMULATION_WARNING);
    let [stderr, log] = told(scene, ("run", &bundle), false);
    assert!(is_the_warning(&stderr) && log.is_empty(), "{stderr}{log}");
    let [stderr, log] = told(scene, ("run", &bundle), true);
    assert!(
        is_the_warning(&stderr) && is_the_warning(&log),
        "{stderr}{log}"
    );
    // Standard error of `create` is the container's, which engines keep as its output.
    let [stderr, log] = told(scene, ("create", &bundle), true);
    assert!(stderr.is_empty() && is_the_warning(&log), "{stderr}{log}");
    scene.caisson(["delete", "--force", &bundle.id]).ok();
}

fn an_annotation_chooses_only_what_the_configuration_allows(scene: &Scene) {
    let bundle = scene.bundle(&["true"]);
    bundle.edit(|config| config["annotations"] = json!({"dev.caisson.machine": "tcg"}));
    for strict in [
        "machine = \"kvm\"\n",
        "machine = \"kvm\"\nallow_emulation = true\n",
        "machine = \"auto\"\n",
    ] {
        scene.configure(strict);
        let refused = scene.try_create(&bundle);
        let line = refused.error_line(1);
        let start = "annotation dev.caisson.machine: tcg is not allowed on this host: ";
        assert!(line.starts_with(start), "{strict}: {line}");
        scene.assert_nothing_is_left();
    }
}

fn a_machine_is_no_larger_than_the_configuration_allows(scene: &Scene) {
    scene.configure("max_vcpus = 1\nmax_mem_mib = 200\n");
    let bundle = scene.shell("nproc; awk '/^MemTotal/ { print $2 }' /proc/meminfo");
    for (hardware, start) in [
        (
            json!({"vcpus": 2}),
            "vm.hwConfig.vcpus: a machine has 1 to 1 vCPUs, not 2",
        ),
        (
            json!({"memory": 1_u64 << 30}),
            "vm.hwConfig.memory: a machine has 64 to 200 MiB of memory",
        ),
    ] {
        bundle.edit(|config| config["vm"] = json!({"hwConfig": hardware}));
        let refused = scene.run(&bundle);
        let line = refused.error_line(1);
        assert!(line.starts_with(start), "{line}");
    }
    bundle.edit(|config| {
        config.as_object_mut().unwrap().remove("vm");
        config["linux"]["resources"]["memory"] = json!({"limit": 1_u64 << 30});
    });
    let said = scene.run(&bundle);
    said.exits(0);
    let numbers: Vec<u64> = said
        .stdout
        .split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect();
    assert!(numbers[0] == 1 && numbers[1] < 200 * 1024, "{numbers:?}");
}
