//! `update` changes each limit of a container that runs, and remembers the others.

use std::fs;

use caisson_tests::{Container, Machine, Scene, stories};
use serde_json::{Value, json};

stories![
    each_flag_changes_its_limit_live,
    // Elsewhere the machine would wait for what else the host has to do.
    an_idle_container_is_told_so.only(Machine::Kvm),
    of_quota_and_period_the_other_one_stays,
    resources_come_from_a_file_or_standard_input,
    a_lower_limit_holds_at_once,
    what_cannot_be_updated_is_refused_and_changes_nothing,
    unified_names_files_of_the_cgroup,
    huge_pages_are_limited,
];

const MIB: u64 = 1 << 20;

fn limited(scene: &Scene) -> Container<'_> {
    let bundle = scene.bundle(&["sleep", "1000"]);
    bundle.with_resource("memory", json!({"limit": 128 * MIB}));
    bundle.with_resource("pids", json!({"limit": 64}));
    scene.started(&bundle)
}

/// What a file of the container's cgroup says, seen from inside.
#[track_caller]
fn limit(container: &Container<'_>, file: &str) -> String {
    let text = container.exec(&["cat", &format!("/sys/fs/cgroup/{file}")]);
    text.ok().trim().to_owned()
}

#[track_caller]
fn update(scene: &Scene, container: &Container<'_>, flags: &[&str]) {
    let arguments = [&["update"], flags, &[&container.id]].concat();
    assert_eq!(scene.caisson(arguments).ok(), "");
}

fn each_flag_changes_its_limit_live(scene: &Scene) {
    let container = limited(scene);
    for (flags, file, expected) in [
        (&["--memory", "64m"][..], "memory.max", "67108864"),
        (&["--memory=-1"], "memory.max", "max"),
        (
            &["--memory", "100M", "--memory-swap", "200M"],
            "memory.max",
            "104857600",
        ),
        (&["--memory-reservation", "1m"], "memory.low", "1048576"),
        (&["--pids-limit", "10"], "pids.max", "10"),
        (&["--pids-limit", "-1"], "pids.max", "max"),
        (&["--cpu-share", "1024"], "cpu.weight", "100"),
        (
            &["-cpu-quota", "30000", "-cpu-period=60000"],
            "cpu.max",
            "30000 60000",
        ),
        (&["--cpu-burst", "10000"], "cpu.max.burst", "10000"),
        (
            &["--cpu-burst", "0", "--cpu-quota", "-1"],
            "cpu.max",
            "max 60000",
        ),
        (
            &["--kernel-memory", "1m", "--kernel-memory-tcp", "1m"],
            "pids.max",
            "max",
        ),
    ] {
        update(scene, &container, flags);
        assert_eq!(limit(&container, file), expected, "{flags:?}");
    }
    // What no flag mentioned is as it was.
    assert_eq!(limit(&container, "memory.low"), "1048576");
    container.remove();
}

fn an_idle_container_is_told_so(scene: &Scene) {
    let container = limited(scene);
    for idle in ["1", "0"] {
        update(scene, &container, &["--cpu-idle", idle]);
        assert_eq!(limit(&container, "cpu.idle"), idle);
    }
    container.remove();
}

fn of_quota_and_period_the_other_one_stays(scene: &Scene) {
    let container = limited(scene);
    update(scene, &container, &["--cpu-quota", "20000"]);
    assert_eq!(limit(&container, "cpu.max"), "20000 100000");
    update(scene, &container, &["--cpu-period", "50000"]);
    assert_eq!(limit(&container, "cpu.max"), "20000 50000");
    container.remove();
}

fn resources_come_from_a_file_or_standard_input(scene: &Scene) {
    let container = limited(scene);
    let path = scene.path("resources.json");
    let resources = json!({
        "memory": {"limit": 32 * MIB}, "pids": {"limit": 7}, "cpu": {"quota": 10_000, "period": 20_000},
        "devices": [{"allow": false, "access": "rwm"}], "unknown": 1,
    });
    fs::write(&path, resources.to_string()).unwrap();
    // Other flags are ignored then.
    let text = path.to_str().unwrap();
    update(scene, &container, &["-r", text, "--pids-limit", "9"]);
    assert_eq!(limit(&container, "memory.max"), (32 * MIB).to_string());
    assert_eq!(limit(&container, "pids.max"), "7");
    assert_eq!(limit(&container, "cpu.max"), "10000 20000");
    let mut command = scene.command(["update", "--resources=-", &container.id]);
    fs::write(&path, r#"{"pids": {"limit": 8}}"#).unwrap();
    command.stdin(fs::File::open(&path).unwrap());
    scene.output_of(command).ok();
    assert_eq!(limit(&container, "pids.max"), "8");
    assert_eq!(limit(&container, "memory.max"), (32 * MIB).to_string());
    container.remove();
}

fn a_lower_limit_holds_at_once(scene: &Scene) {
    let container = limited(scene);
    assert_eq!(
        container.exec(&["probe", "memory", "60"]).ok(),
        "held 60 MiB\n"
    );
    update(scene, &container, &["--memory", "32m"]);
    container.exec(&["probe", "memory", "60"]).exits(137);
    update(scene, &container, &["--pids-limit", "5"]);
    // Its init, and the probe itself.
    assert_eq!(container.exec(&["probe", "processes", "20"]).ok(), "3\n");
    container.remove();
}

fn what_cannot_be_updated_is_refused_and_changes_nothing(scene: &Scene) {
    let container = limited(scene);
    let id = container.id.as_str();
    let refused = |flags: &[&str]| {
        let output = scene.caisson([&["update"], flags, &[id]].concat());
        output.error_line(1).to_owned()
    };
    for (flags, reason) in [
        (
            &["--memory", "lots"][..],
            "invalid value for memory: \"lots\"",
        ),
        (
            &["--cpu-quota", "half"],
            "invalid value for cpu-quota: \"half\"",
        ),
        (&["--pids-limit", "1.5"], "invalid value for pids-limit"),
        (
            &["--memory", "100g"],
            "is more than the machine has for the container",
        ),
        (
            &["--memory-swap", "1m"],
            "memory+swap limit should be >= memory limit",
        ),
        (
            &["--cpu-rt-runtime", "5"],
            "linux.resources.cpu.realtimeRuntime",
        ),
        (&["--l3-cache-schema", "L3:0=f"], "resctrl"),
        (&["-r", "/nowhere"], "no such file or directory"),
    ] {
        let line = refused(flags);
        assert!(line.contains(reason), "{flags:?}: {line}");
    }
    let path = scene.path("resources.json");
    for (text, reason) in [
        ("{", "parse "),
        ("[]", "not an object"),
        (
            r#"{"memory": {"limit": 1, "checkBeforeUpdate": true}}"#,
            "rejecting memory limit 1 <= usage",
        ),
        (
            r#"{"rdma": {"mlx": {"hcaHandles": 1}}}"#,
            "linux.resources.rdma",
        ),
    ] {
        fs::write(&path, text).unwrap();
        let line = refused(&["-r", path.to_str().unwrap()]);
        assert!(line.contains(reason), "{text}: {line}");
    }
    assert_eq!(limit(&container, "memory.max"), (128 * MIB).to_string());
    container.verb("kill", &["KILL"]).ok();
    assert_eq!(container.wait(), 137);
    container
        .verb("update", &[])
        .fails(1, "container not running");
    container.delete();
}

fn unified_names_files_of_the_cgroup(scene: &Scene) {
    let bundle = scene.shell("cat /sys/fs/cgroup/memory.high /sys/fs/cgroup/cpu.weight");
    bundle.with_resource(
        "unified",
        json!({"memory.high": "20971520", "cpu.weight": "50"}),
    );
    assert_eq!(scene.run(&bundle).ok(), "20971520\n50\n");
    for (unified, reason) in [
        (
            json!({"memory.nonsense": "1"}),
            "unable to set unified resource \"memory.nonsense\": no such file or directory",
        ),
        (
            json!({"nonsense.max": "1"}),
            "unified resource \"nonsense.max\" can't be set: controller \"nonsense\" not available",
        ),
        (
            json!({"cgroup/x": "1"}),
            "unified resource \"cgroup/x\" must be a file name (no slashes)",
        ),
        (
            json!({"memory.high": "much"}),
            "unable to set unified resource \"memory.high\": invalid argument",
        ),
    ] {
        bundle.with_resource("unified", unified);
        scene.run(&bundle).fails(1, reason);
    }
}

fn huge_pages_are_limited(scene: &Scene) {
    let bundle = scene.shell("cd /sys/fs/cgroup; cat hugetlb.2MB.max hugetlb.2MB.rsvd.max");
    let limits = |size: &str| -> Value { json!([{"pageSize": size, "limit": 4 * MIB}]) };
    bundle.with_resource("hugepageLimits", limits("2MB"));
    assert_eq!(scene.run(&bundle).ok(), "4194304\n4194304\n");
    bundle.with_resource("hugepageLimits", limits("3MB"));
    let output = scene.run(&bundle);
    assert!(
        output.error_line(1).contains("hugetlb.3MB.max"),
        "{output:?}"
    );
}
