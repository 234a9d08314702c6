//! The container's processes on the host: which cgroup they live in, what it
//! limits, and that it goes with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use caisson_tests::leftovers::other_pids;
use caisson_tests::{Bundle, Machine, Scene, stories};
use nix::sys::signal::Signal;
use serde_json::json;

stories![
    every_process_lives_in_the_named_cgroup,
    without_a_name_the_cgroup_is_called_like_the_container,
    limits_leave_room_for_the_machine,
    processors_are_pinned_on_the_host,
    block_io_is_held_back_on_the_host_and_live.only(Machine::Kvm),
    an_update_reaches_the_host,
    a_refused_update_changes_neither_guest_nor_host,
    what_stands_for_an_exec_lives_there_too,
    an_idle_container_answers_on_a_busy_host.only(Machine::Kvm),
    a_cgroup_of_others_is_refused,
    a_frozen_cgroup_is_refused,
    a_pods_new_cgroup_is_made_fit_to_live_in,
    a_failed_creation_leaves_no_cgroup,
    a_dead_owners_cgroup_goes_with_the_container,
    a_killed_creation_leaves_no_cgroup,
    a_path_that_does_not_fit_the_driver_is_named,
    a_disabled_driver_moves_nobody,
];

const ROOT: &str = "/sys/fs/cgroup";

fn is_version_two() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// The directory of `path` in the hierarchy that has this controller.
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

/// A block device that nobody else uses: a file behind a loop device.
struct Disk(String);

impl Disk {
    fn new(scene: &Scene) -> Self {
        let image = scene.path("disk.img");
        fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let mut setup = Command::new("losetup");
        setup.args(["--find", "--show"]).arg(&image);
        Self(scene.output_of(setup).ok().trim().to_owned())
    }

    /// `major:minor`.
    fn number(&self) -> (i64, i64) {
        let name = self.0.rsplit('/').next().unwrap();
        let text = fs::read_to_string(format!("/sys/block/{name}/dev")).unwrap();
        let (major, minor) = text.trim().split_once(':').unwrap();
        (major.parse().unwrap(), minor.parse().unwrap())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let detached = Command::new("losetup").args(["--detach", &self.0]).status();
        assert!(detached.unwrap().success());
    }
}

fn block_io_is_held_back_on_the_host_and_live(scene: &Scene) {
    let disk = Disk::new(scene);
    let (major, minor) = disk.number();
    let (bundle, path) = placed(scene, &["sleep", "1000"]);
    let rate = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    bundle.with_resource(
        "blockIO",
        json!({"throttleReadBpsDevice": rate(1 << 20), "throttleWriteIOPSDevice": rate(50)}),
    );
    let container = scene.started(&bundle);
    let limits = || value("io", &path, ["", "io.max"]);
    assert_eq!(
        limits(),
        format!("{major}:{minor} rbps=1048576 wbps=max riops=max wiops=50")
    );
    let resources = scene.path("resources.json");
    let update = |block_io: serde_json::Value| {
        fs::write(&resources, json!({"blockIO": block_io}).to_string()).unwrap();
        scene.caisson(["update", "-r", resources.to_str().unwrap(), &container.id])
    };
    update(json!({"throttleReadBpsDevice": rate(2 << 20)})).ok();
    assert_eq!(
        limits(),
        format!("{major}:{minor} rbps=2097152 wbps=max riops=max wiops=50")
    );
    // Of two limits, the second is of a device that isn't there: the first stays, too.
    let refused = update(json!({
        "throttleReadBpsDevice": rate(3 << 20),
        "throttleWriteBpsDevice": [{"major": 4095, "minor": 1, "rate": 1}],
    }));
    assert!(refused.error_line(1).contains("set io.max"), "{refused:?}");
    assert_eq!(
        limits(),
        format!("{major}:{minor} rbps=2097152 wbps=max riops=max wiops=50")
    );
    container.remove();
}

fn a_refused_update_changes_neither_guest_nor_host(scene: &Scene) {
    let (bundle, path) = placed(scene, &["sleep", "1000"]);
    bundle.with_resource("pids", json!({"limit": 40}));
    let container = scene.started(&bundle);
    let cpus = || value("cpuset", &path, ["cpuset.cpus"; 2]);
    let pids = || container.exec(&["cat", "/sys/fs/cgroup/pids.max"]).ok();
    let before = (cpus(), pids(), value("pids", &path, ["pids.max"; 2]));
    let resources = scene.path("resources.json");
    for (changes, reason) in [
        // The guest refuses what the host could have done.
        (
            json!({"cpu": {"cpus": "0"}, "pids": {"limit": 9},
                "memory": {"limit": 1, "checkBeforeUpdate": true}}),
            "rejecting memory limit 1 <= usage",
        ),
        // The host refuses what the guest could have done.
        (
            json!({"cpu": {"cpus": "999"}, "pids": {"limit": 9}}),
            "set cpuset.cpus",
        ),
    ] {
        fs::write(&resources, changes.to_string()).unwrap();
        let refused = scene.caisson(["update", "-r", resources.to_str().unwrap(), &container.id]);
        assert!(refused.error_line(1).contains(reason), "{refused:?}");
        let after = (cpus(), pids(), value("pids", &path, ["pids.max"; 2]));
        assert_eq!(after, before, "{changes}");
    }
    container.remove();
}

fn what_stands_for_an_exec_lives_there_too(scene: &Scene) {
    let (bundle, path) = placed(scene, &["sleep", "1000"]);
    let container = scene.started(&bundle);
    let file = scene.path("exec.pid");
    let name = file.to_str().unwrap();
    let words = [
        "exec",
        "--detach",
        "--pid-file",
        name,
        &container.id,
        "sleep",
        "1000",
    ];
    scene.caisson(words).ok();
    let pid = fs::read_to_string(&file).unwrap().parse().unwrap();
    for cgroup in cgroups_of(pid) {
        assert!(cgroup.ends_with(&path), "{cgroup}");
    }
    container.remove();
    scene.assert_nothing_is_left();
}

/// What else the host does has the processor; the container is still in reach.
fn an_idle_container_answers_on_a_busy_host(scene: &Scene) {
    let (bundle, path) = placed(scene, &["sleep", "1000"]);
    let container = scene.started(&bundle);
    scene
        .caisson(["update", "--cpu-idle", "1", &container.id])
        .ok();
    assert_eq!(value("cpu", &path, ["cpu.shares", "cpu.weight"]), "1");
    assert_eq!(
        container.exec(&["cat", "/sys/fs/cgroup/cpu.idle"]).ok(),
        "1\n"
    );
    let busy = folder("cpu", &format!("{}-busy", scene.tag()));
    fs::create_dir(&busy).unwrap();
    let mut others: Vec<_> = (0..2)
        .map(|_| {
            let mut other = Command::new("sh");
            let script = "echo $$ >\"$0\"/cgroup.procs; while :; do :; done";
            other.args(["-c", script]).arg(&busy).spawn().unwrap()
        })
        .collect();
    container.exec(&["true"]).ok();
    scene.caisson(["pause", &container.id]).ok();
    scene.caisson(["resume", &container.id]).ok();
    container.verb("kill", &["KILL"]).ok();
    assert_eq!(container.wait(), 137);
    for other in &mut others {
        other.kill().unwrap();
        other.wait().unwrap();
    }
    fs::remove_dir(&busy).unwrap();
    container.delete();
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

/// Whoever joined it would stand still for good.
fn a_frozen_cgroup_is_refused(scene: &Scene) {
    let (bundle, path) = placed(scene, &["true"]);
    let frozen = folder("freezer", &path);
    fs::create_dir_all(&frozen).unwrap();
    let (file, state) = if is_version_two() {
        ("cgroup.freeze", "1")
    } else {
        ("freezer.state", "FROZEN")
    };
    let text = format!(
        "container's cgroup unexpectedly frozen: {}",
        frozen.display()
    );
    for place in [frozen.as_path(), frozen.parent().unwrap()] {
        fs::write(place.join(file), state).unwrap();
        scene.try_create(&bundle).fails(1, &text);
        assert!(place.exists(), "it was there before");
        // One that is frozen is removed as any other.
        fs::remove_dir(place).unwrap();
    }
}

/// Of version 1, what an engine has just made has no processors and no memory.
fn a_pods_new_cgroup_is_made_fit_to_live_in(scene: &Scene) {
    let (bundle, path) = placed(scene, &["echo", "hello"]);
    let pod = folder("cpuset", &path).parent().unwrap().to_owned();
    fs::create_dir(&pod).unwrap();
    assert_eq!(scene.run(&bundle).ok(), "hello\n");
    fs::remove_dir(&pod).unwrap();
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
