//! Conversions, checked against what runc writes for the same configuration.

use super::*;

fn written(json: &str) -> Result<Vec<(String, String)>, String> {
    let resources: LinuxResources = serde_json::from_str(json).unwrap();
    settings(&resources, &CgroupState::default())
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
    for json in ["{}", r#"{"memory":{},"cpu":{},"blockIO":{}}"#] {
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
            .contains("without memory limit")
    );
    assert!(
        written(r#"{"memory":{"limit":9,"swap":5}}"#)
            .unwrap_err()
            .contains("should be >=")
    );
}

#[test]
fn tasks_have_a_limit_from_1() {
    let limit = |json: &str| {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        tasks(&resources).map(|setting| setting.value)
    };
    assert_eq!(limit("{}"), None);
    for (json, expected) in [("-1", "max"), ("0", "1"), ("64", "64")] {
        let json = format!(r#"{{"pids":{{"limit":{json}}}}}"#);
        assert_eq!(limit(&json).as_deref(), Some(expected));
    }
}

#[test]
fn unified_values_go_to_the_file_they_name() {
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

#[test]
fn each_line_of_a_unified_value_is_written_alone() {
    assert_eq!(
        written(r#"{"unified":{"io.max":"254:0 rbps=1\n254:16 rbps=2"}}"#).unwrap(),
        [is("io.max", "254:0 rbps=1"), is("io.max", "254:16 rbps=2")]
    );
}

#[test]
fn huge_pages_are_limited_in_use_and_in_reserve() {
    assert_eq!(
        written(r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#).unwrap(),
        [
            is("hugetlb.2MB.max", "4194304"),
            is("hugetlb.2MB.rsvd.max", "4194304")
        ]
    );
}

#[test]
fn an_update_sees_what_is_there() {
    let state = CgroupState {
        memory_max: 1000,
        memory_current: 800,
        ..CgroupState::default()
    };
    let update = |json: &str| {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        settings(&resources, &state)
    };
    let swap = update(r#"{"memory":{"swap":1500}}"#).unwrap();
    assert_eq!(swap[0].value, "500");
    let refused = update(r#"{"memory":{"limit":700,"checkBeforeUpdate":true}}"#);
    assert_eq!(
        refused.unwrap_err().line(),
        "rejecting memory limit 700 <= usage 800"
    );
    update(r#"{"memory":{"limit":700}}"#).unwrap();
}
