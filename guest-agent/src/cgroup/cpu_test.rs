//! Conversions, checked against what runc writes for the same configuration.

use super::*;

fn written(json: &str, state: &CgroupState) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let cpu: LinuxCpu = serde_json::from_str(json).unwrap();
    add(&mut settings, &cpu, state);
    let pair = |one: Setting| (one.file, one.value);
    settings.into_iter().map(pair).collect()
}

fn one(json: &str) -> (String, String) {
    let mut all = written(json, &CgroupState::default());
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn is(file: &str, value: &str) -> (String, String) {
    (file.to_owned(), value.to_owned())
}

#[test]
fn quota_and_period_share_a_file() {
    assert_eq!(one(r#"{"quota":50000}"#), is("cpu.max", "50000 100000"));
    assert_eq!(
        one(r#"{"quota":-1,"period":20000}"#),
        is("cpu.max", "max 20000")
    );
}

#[test]
fn an_idle_group_has_no_weight() {
    assert_eq!(one(r#"{"idle":1,"shares":512}"#), is("cpu.idle", "1"));
}

#[test]
fn a_quota_or_period_alone_leaves_the_other_as_it_is() {
    let state = CgroupState {
        cpu_quota_us: Some(30_000),
        cpu_period_us: 60_000,
        ..CgroupState::default()
    };
    for (json, expected) in [
        (r#"{"quota":20000}"#, "20000 60000"),
        (r#"{"period":90000}"#, "30000 90000"),
        (r#"{"quota":-1}"#, "max 60000"),
    ] {
        assert_eq!(written(json, &state), [is("cpu.max", expected)]);
    }
}

#[test]
fn a_burst_is_never_above_the_quota_of_its_moment() {
    let state = CgroupState {
        cpu_quota_us: Some(30_000),
        ..CgroupState::default()
    };
    let (quota, burst) = (is("cpu.max", "90000 100000"), is("cpu.max.burst", "60000"));
    let raised = written(r#"{"quota":90000,"burst":60000}"#, &state);
    assert_eq!(raised, [quota, burst]);
    let lowered = written(r#"{"quota":20000,"burst":10000}"#, &state);
    assert_eq!(
        lowered,
        [is("cpu.max.burst", "10000"), is("cpu.max", "20000 100000")]
    );
}
