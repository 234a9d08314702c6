//! Texts and files as plain data.

use super::*;

fn asked(key: &str, text: &str) -> Result<Vec<Property>, Malformed> {
    of_annotations(&HashMap::from([(key.to_owned(), text.to_owned())]))
}

#[track_caller]
fn one(name: &str, text: &str) -> (String, Typed) {
    let asked = asked(&format!("org.systemd.property.{name}"), text).unwrap();
    let [property] = &asked[..] else {
        panic!("{asked:?}")
    };
    (property.name.clone(), property.value.clone())
}

#[test]
fn what_engines_write_is_understood() {
    let list = |words: &[&str]| Typed::Texts(words.iter().map(|word| (*word).into()).collect());
    for (name, text, value) in [
        ("KillSignal", "15", Typed::Int32(15)),
        (
            "TimeoutStopUSec",
            "uint64 10000000",
            Typed::Uint64(10_000_000),
        ),
        (
            "CollectMode",
            "'inactive-or-failed'",
            Typed::Text("inactive-or-failed".into()),
        ),
        ("DefaultDependencies", "true", Typed::Bool(true)),
        (
            "After",
            "['a.service', \"b.target\"]",
            list(&["a.service", "b.target"]),
        ),
        ("After", "@as []", list(&[])),
        ("Nice", "@n -5", Typed::Int16(-5)),
        ("Description", r"'it\'s'", Typed::Text("it's".into())),
    ] {
        assert_eq!(one(name, text), (name.to_owned(), value), "{name}={text}");
    }
    let expected = ("TimeoutStopUSec".to_owned(), Typed::Uint64(10_000_000));
    assert_eq!(one("TimeoutStopSec", "10"), expected);
    assert_eq!(asked("org.criu.config", "x"), Ok(vec![]));
}

#[test]
fn what_is_no_property_is_named() {
    for (key, text) in [
        ("ab", "1"),
        ("Memory_Max", "1"),
        ("MemoryMax", ""),
        ("MemoryMax", "uint64 -1"),
        ("MemoryMax", "uint64"),
        ("After", "['a'"),
        ("After", "['a' 'b']"),
        ("After", "[1]"),
        ("Description", "'open"),
        ("Description", "'a' b"),
        ("TimeoutStopSec", "'ten'"),
        ("TimeoutStopSec", "-1"),
        ("CPUWeight", "1.5"),
    ] {
        let key = format!("org.systemd.property.{key}");
        let err = asked(&key, text).unwrap_err().to_string();
        assert!(err.starts_with(&format!("annotation {key}: ")), "{err}");
    }
}

#[test]
fn files_become_properties() {
    let files = HashMap::from([
        ("memory.max", "1048576\n"),
        ("pids.max", "max\n"),
        ("cpu.weight", "100\n"),
        ("cpu.max", "62501 100000\n"),
        ("cpuset.cpus", "0-1,9\n"),
        ("cpuset.mems", "\n"),
    ]);
    let found = of_files(|file| files.get(file).map(|text| (*text).to_owned()));
    let pairs: Vec<(&str, &Typed)> = found
        .iter()
        .map(|property| (property.name.as_str(), &property.value))
        .collect();
    assert_eq!(
        pairs,
        [
            ("MemoryMax", &Typed::Uint64(1_048_576)),
            ("TasksMax", &Typed::Uint64(u64::MAX)),
            ("CPUWeight", &Typed::Uint64(100)),
            ("CPUQuotaPeriodUSec", &Typed::Uint64(100_000)),
            ("CPUQuotaPerSecUSec", &Typed::Uint64(630_000)),
            ("AllowedCPUs", &Typed::Bytes(vec![0b11, 0b10])),
        ]
    );
    assert_eq!(of_files(|_| None), []);
    assert_eq!(quota("max 100000"), Some((u64::MAX, 100_000)));
}
