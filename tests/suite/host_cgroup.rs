//! The container's processes on the host: which cgroup they live in, what it
//! limits, and that it goes with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use caisson_tests::leftovers::other_pids;
use caisson_tests::{Bundle, Scene, stories};
use nix::sys::signal::Signal;
use serde_json::json;

stories![
    every_process_lives_in_the_named_cgroup,
    without_a_name_the_cgroup_is_called_like_the_container,
    limits_leave_room_for_the_machine,
    processors_are_pinned_on_the_host,
    an_update_reaches_the_host,
    a_cgroup_of_others_is_refused,
    a_failed_creation_leaves_no_cgroup,
    a_dead_owners_cgroup_goes_with_the_container,
    a_killed_creation_leaves_no_cgroup,
    a_path_that_does_not_fit_the_driver_is_named,
    a_disabled_driver_moves_nobody,
    systemd_makes_a_scope,
];

const ROOT: &str = "/sys/fs/cgroup";

fn is_version_two() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// The folder of `path` in the hierarchy that has this controller.
fn folder(controller: &str, path: &str) -> PathBuf {
    let root = Path::new(ROOT);
    if is_version_two() {
        root.join(path)
    } else {
        root.join(controller).join(path)
    }
}

fn value(controller: &str, path: &str, [one, two]: [&str; 2]) -> String {
    let file = if is_version_two() { two } else { one };
    let path = folder(controller, path).join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    text.trim().to_owned()
}

/// A bundle whose cgroup is `<tag>/ctr` below every root.
fn placed(scene: &Scene, arguments: &[&str]) -> (Bundle, String) {
    let bundle = scene.bundle(arguments);
    let path = format!("{}/ctr", scene.tag());
    bundle.edit(|config| config["linux"]["cgroupsPath"] = format!("/{path}").into());
    (bundle, path)
}

/// The cgroups of a process, without those of hierarchies it can't be moved in.
fn cgroups_of(pid: i32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| {
        let (number, rest) = line.split_once(':')?;
        (number != "0" || is_version_two()).then_some(rest)
    });
    lines
        .map(|line| line.split_once(':').unwrap_or_default().1.to_owned())
        .collect()
}

fn every_process_lives_in_the_named_cgroup(scene: &Scene) {
    let (bundle, path) = placed(scene, &["sleep", "1000"]);
    let container = scene.started(&bundle);
    let pids = other_pids();
    assert!(pids.len() >= 3, "owner, machine and file server: {pids:?}");
    for pid in pids {
        let cgroups = cgroups_of(pid);
        assert!(!cgroups.is_empty(), "{pid}");
        for cgroup in cgroups {
            assert!(cgroup.ends_with(&path), "{pid} is in {cgroup}");
        }
    }
    container.remove();
    scene.assert_nothing_is_left();
}

fn without_a_name_the_cgroup_is_called_like_the_container(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    let cgroups = cgroups_of(container.pid);
    assert!(!cgroups.is_empty());
    for cgroup in cgroups {
        assert!(cgroup.ends_with(&format!("/{}", container.id)), "{cgroup}");
    }
    container.remove();
    scene.assert_nothing_is_left();
}

fn limits_leave_room_for_the_machine(scene: &Scene) {
    const LIMIT: u64 = 64 << 20;
    let (bundle, path) = placed(scene, &["sleep", "1000"]);
    bundle.with_resource("memory", json!({"limit": LIMIT}));
    bundle.with_resource("pids", json!({"limit": 16}));
    bundle.with_resource(
        "cpu",
        json!({"quota": 50_000, "period": 100_000, "shares": 2048}),
    );
    let container = scene.started(&bundle);
    let memory = value("memory", &path, ["memory.limit_in_bytes", "memory.max"]);
    let memory: u64 = memory.parse().unwrap();
    assert!((LIMIT + (64 << 20)..2 << 30).contains(&memory), "{memory}");
    assert_eq!(value("pids", &path, ["pids.max"; 2]), "1040");
    let quota = value("cpu", &path, ["cpu.cfs_quota_us", "cpu.max"]);
    assert_eq!(quota.split(' ').next(), Some("62500"));
    let shares = value("cpu", &path, ["cpu.shares", "cpu.weight"]);
    assert_eq!(shares, if is_version_two() { "174" } else { "2048" });
    container.remove();
}

fn processors_are_pinned_on_the_host(scene: &Scene) {
    let (bundle, _) = placed(scene, &["nproc"]);
    bundle.with_resource("cpu", json!({"cpus": "0", "mems": "0"}));
    let container = scene.create(&bundle);
    for pid in other_pids() {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(
            status.contains("Cpus_allowed_list:\t0\n"),
            "{pid}: {status}"
        );
    }
    container.start();
    assert_eq!(container.wait(), 0);
    container.delete();
    let (bundle, path) = placed(scene, &["true"]);
    bundle.with_resource("cpu", json!({"cpus": "100000"}));
    let text = format!(
        "set cpuset.cpus of cgroup {} to \"100000\": ",
        folder("cpuset", &path).display()
    );
    let output = scene.try_create(&bundle);
    assert!(output.error_line(1).starts_with(&text), "{output:?}");
    scene.assert_nothing_is_left();
}

fn an_update_reaches_the_host(scene: &Scene) {
    let (bundle, path) = placed(scene, &["sleep", "1000"]);
    bundle.with_resource("cpu", json!({"quota": 100_000, "period": 200_000}));
    let container = scene.started(&bundle);
    let update = |flags: &[&str]| {
        let arguments = [&["update"], flags, &[&bundle.id]].concat();
        assert_eq!(scene.caisson(arguments).ok(), "");
    };
    update(&["--cpuset-cpus", "0", "--pids-limit", "50"]);
    assert_eq!(value("cpuset", &path, ["cpuset.cpus"; 2]), "0");
    let pids: u64 = value("pids", &path, ["pids.max"; 2]).parse().unwrap();
    assert!(pids > 50, "room for the machine's own threads: {pids}");
    // The period is the one from before.
    update(&["--cpu-quota", "40000"]);
    let quota = value("cpu", &path, ["cpu.cfs_quota_us", "cpu.max"]);
    assert!(quota.starts_with("60000"), "{quota}");
    let refused = scene.caisson(["update", "--cpuset-cpus", "999", &bundle.id]);
    assert!(refused.error_line(1).contains("cpuset.cpus"), "{refused:?}");
    assert_eq!(value("cpuset", &path, ["cpuset.cpus"; 2]), "0");
    container.remove();
}

fn a_cgroup_of_others_is_refused(scene: &Scene) {
    let (bundle, path) = placed(scene, &["true"]);
    let taken = folder("memory", &path);
    fs::create_dir_all(&taken).unwrap();
    let mut tenant = Command::new("sleep").arg("1000").spawn().unwrap();
    fs::write(taken.join("cgroup.procs"), tenant.id().to_string()).unwrap();
    let text = "container's cgroup is not empty: 1 process(es) found";
    scene.try_create(&bundle).fails(1, text);
    assert!(taken.exists(), "it was someone's");
    tenant.kill().unwrap();
    tenant.wait().unwrap();
    fs::remove_dir(&taken).unwrap();
    fs::remove_dir(taken.parent().unwrap()).unwrap();
}

fn a_failed_creation_leaves_no_cgroup(scene: &Scene) {
    let (bundle, _) = placed(scene, &["/nowhere/program"]);
    bundle.edit(|config| {
        config["hooks"]["createContainer"] = json!([{"path": "/bin/false"}]);
    });
    scene.try_create(&bundle).exits(1);
    scene.assert_nothing_is_left();
}

fn a_dead_owners_cgroup_goes_with_the_container(scene: &Scene) {
    let (bundle, path) = placed(scene, &["sleep", "1000"]);
    let container = scene.started(&bundle);
    container.signal(Signal::SIGKILL);
    assert_eq!(container.wait_briefly(), 137);
    container.delete();
    assert!(!folder("memory", &path).exists());
    scene.assert_nothing_is_left();
}

/// No command is left that could remove anything: the owner does.
fn a_killed_creation_leaves_no_cgroup(scene: &Scene) {
    let (bundle, path) = placed(scene, &["true"]);
    let mut command = scene.command(["create", "--bundle"]);
    command.arg(&bundle.path).arg(&bundle.id);
    let sign = scene.path("sign");
    let hook = format!(": >{}; exec sleep 1000", sign.display());
    bundle.edit(|config| {
        let path = "PATH=/usr/bin:/bin";
        config["hooks"]["createRuntime"] =
            json!([{"path": "/bin/sh", "args": ["sh", "-c", hook], "env": [path]}]);
    });
    let mut creation = command.spawn().unwrap();
    caisson_tests::wait::for_file(&sign);
    assert!(folder("memory", &path).exists());
    creation.kill().unwrap();
    creation.wait().unwrap();
    scene.assert_nothing_is_left();
}

fn a_path_that_does_not_fit_the_driver_is_named(scene: &Scene) {
    let bundle = scene.bundle(&["true"]);
    bundle.edit(|config| config["linux"]["cgroupsPath"] = "/a/b".into());
    let folder = bundle.path.to_str().unwrap();
    let arguments = ["--systemd-cgroup", "create", "--bundle", folder, &bundle.id];
    let text = "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \"/a/b\" instead";
    scene.caisson(arguments).fails(1, text);
    bundle.edit(|config| config["linux"]["cgroupsPath"] = "/..".into());
    let text = "linux.cgroupsPath \"/..\" is the root cgroup; name one of its own";
    scene.try_create(&bundle).fails(1, text);
    scene.assert_nothing_is_left();
}

fn a_disabled_driver_moves_nobody(scene: &Scene) {
    let (bundle, path) = placed(scene, &["true"]);
    let folder = bundle.path.to_str().unwrap();
    let arguments = [
        "--cgroup-manager",
        "disabled",
        "run",
        "--bundle",
        folder,
        &bundle.id,
    ];
    scene.caisson(arguments).ok();
    assert!(!self::folder("memory", &path).exists());
}

fn systemd_makes_a_scope(scene: &Scene) {
    if !Path::new("/run/systemd/system").exists() {
        eprintln!("NOT TESTED: systemd does not run here, so nobody makes scopes");
        return;
    }
    let bundle = scene.bundle(&["sleep", "1000"]);
    let name = scene.tag();
    bundle.edit(|config| config["linux"]["cgroupsPath"] = format!("system.slice:t:{name}").into());
    let folder = bundle.path.to_str().unwrap();
    let arguments = [
        "--systemd-cgroup",
        "run",
        "-d",
        "--bundle",
        folder,
        &bundle.id,
    ];
    scene.caisson(arguments).ok();
    let scope = format!("/system.slice/t-{name}.scope");
    for pid in other_pids() {
        assert!(cgroups_of(pid).contains(&scope), "{pid}");
    }
    scene.caisson(["delete", "--force", &bundle.id]).ok();
    scene.assert_nothing_is_left();
}
