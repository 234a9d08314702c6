//! Conversions as plain data.

use serde_json::json;

use super::*;

const ALLOWANCE: Allowance = Allowance {
    mem_mib: 128,
    vcpus: 2,
    emulated: false,
};

const V1: Files = Files {
    version: Version::V1,
    has_bfq: false,
};
const V2: Files = Files {
    version: Version::V2,
    has_bfq: false,
};

fn resources(value: serde_json::Value) -> LinuxResources {
    serde_json::from_value(value).unwrap()
}

/// Settings but those that there are in any case.
fn asked_for(limits: &LinuxResources, files: Files) -> Vec<Setting> {
    let mut settings = settings(limits, ALLOWANCE, files);
    settings.retain(|setting| setting.controller != "memory" && setting.file != "pids.max");
    settings
}

/// As they are written, but for the limit of tasks that every container has.
fn lines(settings: Vec<Setting>) -> Vec<String> {
    let line = |setting: Setting| format!("{}={}", setting.file, setting.value);
    let lines = settings.into_iter().map(line);
    lines.filter(|line| line != DEFAULT_PIDS).collect()
}

const DEFAULT_PIDS: &str = "pids.max=1152";

#[test]
fn limits_leave_room_for_the_machine() {
    let limits = resources(json!({
        "memory": {"limit": 67_108_864}, "pids": {"limit": 10}, "cpu": {"shares": 1024},
    }));
    assert_eq!(
        lines(settings(&limits, ALLOWANCE, V2)),
        [
            format!("memory.max={}", (128 + 2 + 224 + 64) << 20),
            "cpu.weight=100".into(),
            "pids.max=1034".into(),
        ]
    );
    assert_eq!(
        lines(settings(&limits, ALLOWANCE, V1)),
        [
            format!("memory.limit_in_bytes={}", (128 + 2 + 224 + 64) << 20),
            "cpu.shares=1024".into(),
            "pids.max=1034".into(),
        ]
    );
    let emulated = Allowance {
        emulated: true,
        ..ALLOWANCE
    };
    assert!(emulated.bytes() > ALLOWANCE.bytes() + (1 << 30));
}

#[test]
fn memory_and_tasks_are_limited_in_any_case_and_minus_one_lifts_the_others() {
    let memory = format!("memory.max={}", ALLOWANCE.bytes());
    let none = resources(json!({"memory": {"swap": -1}, "cpu": {}, "pids": {"limit": 0}}));
    for none in [&none, &LinuxResources::default()] {
        assert_eq!(lines(settings(none, ALLOWANCE, V2)), [memory.as_str()]);
        let tasks = settings(none, ALLOWANCE, V2);
        let tasks = tasks.iter().find(|setting| setting.file == "pids.max");
        let tasks = tasks.map(|setting| format!("{}={}", setting.file, setting.value));
        assert_eq!(tasks.as_deref(), Some(DEFAULT_PIDS));
    }
    assert_eq!(quota(&none, Version::V1), []);
    let lifted = resources(json!({"memory": {"limit": -1}, "pids": {"limit": -1}}));
    assert_eq!(
        lines(settings(&lifted, ALLOWANCE, V2)),
        [memory, "pids.max=max".into()]
    );
    assert_eq!(
        lines(settings(&lifted, ALLOWANCE, V1))[1..],
        ["pids.max=max"]
    );
}

#[test]
fn a_quota_is_wider_by_a_quarter_or_a_tenth_of_a_cpu() {
    let of = |quota: i64| resources(json!({"cpu": {"quota": quota, "period": 100_000}}));
    let two = |limit: i64| lines(quota(&of(limit), Version::V2));
    assert_eq!(two(200_000), ["cpu.max=250000 100000"]);
    assert_eq!(two(20_000), ["cpu.max=30000 100000"]);
    assert_eq!(two(-1), ["cpu.max=max 100000"]);
    assert_eq!(
        lines(quota(&of(200_000), Version::V1)),
        [
            "cpu.cfs_quota_us=-1",
            "cpu.cfs_period_us=100000",
            "cpu.cfs_quota_us=250000"
        ]
    );
}

#[test]
fn sets_of_cpus_and_block_io_are_exact_and_the_hosts_alone() {
    let limits = resources(json!({
        "cpu": {"cpus": "0-1", "mems": "0"},
        "blockIO": {"weight": 505, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 0}]},
    }));
    let two = asked_for(&limits, V2);
    assert!(two.iter().all(|setting| setting.need == Need::Only));
    assert_eq!(
        lines(two),
        [
            "cpuset.cpus=0-1",
            "cpuset.mems=0",
            "io.weight=default 5000",
            "io.max=8:0 rbps=1000",
            "io.max=8:16 wiops=max",
        ]
    );
    let one = asked_for(&limits, V1);
    assert_eq!(
        lines(one)[2..],
        [
            "blkio.weight=505",
            "blkio.throttle.read_bps_device=8:0 1000",
            "blkio.throttle.write_iops_device=8:16 0",
        ]
    );
}

#[test]
fn weights_go_to_the_scheduler_that_is_there() {
    let limits = resources(json!({"blockIO": {
        "weight": 333, "weightDevice": [{"major": 7, "minor": 0, "weight": 444}],
    }}));
    let of =
        |version: Files, has_bfq: bool| lines(asked_for(&limits, Files { has_bfq, ..version }));
    assert_eq!(
        of(V1, false),
        ["blkio.weight=333", "blkio.weight_device=7:0 444"]
    );
    assert_eq!(
        of(V1, true),
        ["blkio.bfq.weight=333", "blkio.bfq.weight_device=7:0 444"]
    );
    assert_eq!(
        of(V2, false),
        ["io.weight=default 3263", "io.weight=7:0 4384"]
    );
    assert_eq!(
        of(V2, true),
        ["io.bfq.weight=default 333", "io.bfq.weight=7:0 444"]
    );
}

#[test]
fn an_idle_container_has_the_smallest_share_and_gets_its_own_back() {
    let two = |cpu: serde_json::Value| {
        let limits = resources(json!({"cpu": cpu}));
        lines(asked_for(&limits, V2))
    };
    assert_eq!(two(json!({"idle": 1, "shares": 512})), ["cpu.weight=1"]);
    assert_eq!(two(json!({"idle": 0, "shares": 2048})), ["cpu.weight=174"]);
    assert_eq!(two(json!({"idle": 0})), ["cpu.weight=100"]);
    let limits = resources(json!({"cpu": {"idle": 1}}));
    let one = lines(asked_for(&limits, V1));
    assert_eq!(one, ["cpu.shares=2"]);
}

#[test]
fn a_setting_is_undone_by_what_its_file_said_before() {
    for (version, file, value, present, expected) in [
        (Version::V2, "cpuset.cpus", "0", "", "\n"),
        (Version::V2, "cpuset.cpus", "0", "0-3\n", "0-3\n"),
        (Version::V1, "blkio.weight", "10", "500\n", "500\n"),
        (
            Version::V2,
            "io.weight",
            "default 10",
            "default 100\n8:0 7\n",
            "default 100",
        ),
        (
            Version::V2,
            "io.weight",
            "8:0 10",
            "default 100\n8:0 7\n",
            "8:0 7",
        ),
        (
            Version::V2,
            "io.weight",
            "8:16 10",
            "default 100\n",
            "8:16 default",
        ),
        (
            Version::V1,
            "blkio.bfq.weight_device",
            "8:0 10",
            "default 100\n",
            "8:0 default",
        ),
        (Version::V2, "io.max", "8:0 rbps=5", "", "8:0 rbps=max"),
        (
            Version::V2,
            "io.max",
            "8:0 wbps=5",
            "8:0 rbps=9 wbps=7 riops=max\n",
            "8:0 wbps=7",
        ),
        (
            Version::V1,
            "blkio.throttle.read_bps_device",
            "8:0 5",
            "8:0 9\n",
            "8:0 9",
        ),
        (
            Version::V1,
            "blkio.throttle.read_bps_device",
            "8:0 5",
            "",
            "8:0 0",
        ),
    ] {
        let setting = Setting {
            controller: "",
            file,
            value: value.to_owned(),
            need: Need::Only,
        };
        let undone = setting.undone(version, present).value;
        assert_eq!(undone, expected, "{file} {value} after {present:?}");
    }
}
