//! Conversions, checked against what runc writes for the same configuration.

use super::*;

fn written(json: &str) -> Result<Vec<(String, String)>, String> {
    let resources: LinuxResources = serde_json::from_str(json).unwrap();
    settings(&resources)
        .map(|settings| {
            settings
                .into_iter()
                .map(|one| (one.file, one.value))
                .collect()
        })
        .map_err(|failure| failure.line())
}

fn one(json: &str) -> (String, String) {
    let mut all = written(json).unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn is(file: &str, value: &str) -> (String, String) {
    (file.to_owned(), value.to_owned())
}

#[test]
fn nothing_asked_is_nothing_written() {
    for json in ["{}", r#"{"memory":{},"cpu":{},"pids":{"limit":0}}"#] {
        assert!(written(json).unwrap().is_empty());
    }
}

#[test]
fn memory_and_swap_are_counted_apart() {
    assert_eq!(
        written(r#"{"memory":{"limit":1000,"swap":1500,"reservation":500}}"#).unwrap(),
        [
            is("memory.swap.max", "500"),
            is("memory.max", "1000"),
            is("memory.low", "500")
        ]
    );
    assert_eq!(
        written(r#"{"memory":{"limit":-1}}"#).unwrap(),
        [is("memory.swap.max", "max"), is("memory.max", "max")]
    );
    assert_eq!(
        written(r#"{"memory":{"limit":7,"swap":-1}}"#).unwrap(),
        [is("memory.swap.max", "max"), is("memory.max", "7")]
    );
    assert!(
        written(r#"{"memory":{"swap":5}}"#)
            .unwrap_err()
            .contains("needs a limit")
    );
    assert!(
        written(r#"{"memory":{"limit":9,"swap":5}}"#)
            .unwrap_err()
            .contains("less than")
    );
}

#[test]
fn shares_become_weights_with_both_defaults_and_both_ends_kept() {
    for (shares, expected) in [
        (1, 1),
        (2, 1),
        (1024, 100),
        (262_144, 10_000),
        (999_999, 10_000),
    ] {
        assert_eq!(weight(shares), expected, "{shares}");
    }
    assert!(weight(512) < 100 && weight(2048) > 100);
}

#[test]
fn quota_and_period_share_a_file() {
    assert_eq!(
        one(r#"{"cpu":{"quota":50000}}"#),
        is("cpu.max", "50000 100000")
    );
    assert_eq!(
        one(r#"{"cpu":{"quota":-1,"period":20000}}"#),
        is("cpu.max", "max 20000")
    );
}

#[test]
fn an_idle_group_has_no_weight() {
    assert_eq!(
        one(r#"{"cpu":{"idle":1,"shares":512}}"#),
        is("cpu.idle", "1")
    );
}

#[test]
fn processes_and_unified_values() {
    assert_eq!(one(r#"{"pids":{"limit":-1}}"#), is("pids.max", "max"));
    assert_eq!(one(r#"{"pids":{"limit":64}}"#), is("pids.max", "64"));
    assert_eq!(
        one(r#"{"unified":{"memory.high":"5"}}"#),
        is("memory.high", "5")
    );
    assert!(
        written(r#"{"unified":{"../x":"1"}}"#)
            .unwrap_err()
            .contains("unified")
    );
}
