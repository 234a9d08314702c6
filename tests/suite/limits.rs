//! Limits hold, and what a container is told about its size is true.

use caisson_tests::{Scene, stories};
use serde_json::json;

stories![
    a_program_beyond_the_memory_limit_is_killed_and_the_machine_ends_cleanly,
    an_execd_process_beyond_the_memory_limit_dies_alone,
    no_more_processes_than_the_limit,
    a_cpu_quota_holds,
    nproc_and_memory_tell_the_truth,
    without_limits_the_documented_defaults_count,
    rlimits_are_those_of_the_configuration,
];

const MIB: u64 = 1 << 20;

fn a_program_beyond_the_memory_limit_is_killed_and_the_machine_ends_cleanly(scene: &Scene) {
    let bundle = scene.bundle(&["probe", "memory", "200"]);
    bundle.with_resource("memory", json!({"limit": 64 * MIB}));
    let output = scene.run(&bundle);
    output.exits(137);
    assert_eq!(output.stdout, "");
    // As much as is allowed is no offence.
    let bundle = scene.bundle(&["probe", "memory", "40"]);
    bundle.with_resource("memory", json!({"limit": 64 * MIB}));
    assert_eq!(scene.run(&bundle).ok(), "held 40 MiB\n");
}

fn an_execd_process_beyond_the_memory_limit_dies_alone(scene: &Scene) {
    let bundle = scene.bundle(&["sleep", "1000"]);
    bundle.with_resource("memory", json!({"limit": 64 * MIB}));
    let container = scene.started(&bundle);
    for _ in 0..2 {
        container.exec(&["probe", "memory", "200"]).exits(137);
        assert_eq!(container.exec(&["echo", "alive"]).ok(), "alive\n");
    }
    container.assert_status("running");
    container.remove();
}

fn no_more_processes_than_the_limit(scene: &Scene) {
    let bundle = scene.bundle(&["probe", "processes", "100"]);
    bundle.with_resource("pids", json!({"limit": 16}));
    // The program itself counts too.
    assert_eq!(scene.run(&bundle).ok(), "15\n");
}

fn a_cpu_quota_holds(scene: &Scene) {
    let bundle = scene.bundle(&["probe", "burn", "4000"]);
    bundle.with_resource("cpu", json!({"quota": 20_000, "period": 100_000}));
    let output = scene.run(&bundle).ok();
    let numbers: Vec<u64> = output
        .split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect();
    let share = 100 * numbers[0] / numbers[1];
    // A busy host may give less than the quota, but nothing may give more.
    assert!((2..=26).contains(&share), "{share} % of a CPU: {output}");
}

fn nproc_and_memory_tell_the_truth(scene: &Scene) {
    let script =
        "nproc; awk '/^MemTotal/ { print $2 }' /proc/meminfo; cat /sys/fs/cgroup/memory.max";
    let bundle = scene.shell(script);
    bundle.with_resource("cpu", json!({"quota": 100_000, "period": 100_000}));
    bundle.with_resource("memory", json!({"limit": 200 * MIB}));
    let output = scene.run(&bundle).ok();
    let numbers: Vec<u64> = output
        .split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect();
    assert_eq!(numbers[0], 1, "one CPU's worth of quota is one CPU");
    let total_mib = numbers[1] / 1024;
    assert!(
        (200..264).contains(&total_mib),
        "the limit and less than 64 MiB more: {total_mib} MiB"
    );
    assert_eq!(numbers[2], 200 * MIB);
}

fn without_limits_the_documented_defaults_count(scene: &Scene) {
    scene.configure("default_mem_mib = 300\ndefault_vcpus = 1\n");
    let script = "nproc; awk '/^MemTotal/ { print $2 }' /proc/meminfo";
    let output = scene.run(&scene.shell(script)).ok();
    let numbers: Vec<u64> = output
        .split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect();
    assert_eq!(numbers[0], 1);
    assert!((250..=300).contains(&(numbers[1] / 1024)), "{output}");
}

fn rlimits_are_those_of_the_configuration(scene: &Scene) {
    let bundle = scene.shell("ulimit -n; ulimit -Hn; ulimit -c");
    bundle.edit(|config| {
        config["process"]["rlimits"] = json!([
            {"type": "RLIMIT_NOFILE", "soft": 123, "hard": 456}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        ]);
    });
    assert_eq!(scene.run(&bundle).ok(), "123\n456\n0\n");
}
