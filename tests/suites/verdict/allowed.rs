//! The reviewed list of tests that the control passes and caisson need not.
//!
//! Each entry says why, and what the user gets instead.

use serde::Deserialize;

/// Tests with one reason.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// Names as in the results; a `*` stands for anything.
    tests: Vec<String>,
    /// Only on this machine.
    machine: Option<String>,
    /// Why it can't pass. This and what follows is for the reader; its absence
    /// is an error.
    #[serde(rename = "reason")]
    _reason: String,
    /// What the user gets instead.
    #[serde(rename = "instead")]
    _instead: String,
    /// When it was reviewed last: year-month-day.
    #[serde(rename = "date")]
    _date: String,
}

/// The list of one suite.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AllowList {
    #[serde(default)]
    entry: Vec<Entry>,
}

/// The entries that count on one machine.
#[derive(Debug, Default)]
pub(crate) struct Allowed<'a> {
    patterns: Vec<&'a str>,
}

impl AllowList {
    /// Reads TOML.
    pub(crate) fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// What counts on `machine`.
    pub(crate) fn on(&self, machine: &str) -> Allowed<'_> {
        let counts = |entry: &&Entry| entry.machine.as_deref().is_none_or(|only| only == machine);
        let entries = self.entry.iter().filter(counts);
        Allowed {
            patterns: entries
                .flat_map(|entry| entry.tests.iter().map(String::as_str))
                .collect(),
        }
    }
}

impl Allowed<'_> {
    /// Whether the test may fail.
    pub(crate) fn names(&self, test: &str) -> bool {
        self.patterns.iter().any(|pattern| matches(pattern, test))
    }
}

/// Whether `test` is the pattern, whose first `*` stands for anything.
fn matches(pattern: &str, test: &str) -> bool {
    match pattern.split_once('*') {
        Some((begin, end)) => test
            .strip_prefix(begin)
            .is_some_and(|rest| rest.ends_with(end)),
        None => test == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"
        [[entry]]
        tests = ["version/*", "help/runc -h"]
        reason = "asks for the program's name"
        instead = "caisson's own name"
        date = "2026-01-31"

        [[entry]]
        tests = ["rlimits/a"]
        machine = "tcg"
        reason = "r"
        instead = "i"
        date = "2026-01-31"
    "#;

    #[test]
    fn a_star_stands_for_anything() {
        assert!(matches("auto/*::block", "auto/mknod::a::block"));
        assert!(!matches("auto/*::block", "auto/mknod::a::char"));
        assert!(!matches("ab*bc", "abc"));
    }

    #[test]
    fn entries_name_tests_whole_or_by_their_beginning() {
        let list = AllowList::parse(LIST).unwrap();
        let allowed = list.on("kvm");
        assert!(allowed.names("version/runc version"));
        assert!(allowed.names("help/runc -h"));
        assert!(!allowed.names("help/runc -help"));
        assert!(!allowed.names("rlimits/a"));
        assert!(list.on("tcg").names("rlimits/a"));
    }

    #[test]
    fn an_entry_without_a_reason_is_an_error() {
        let text = "[[entry]]\ntests = [\"a\"]\ninstead = \"b\"\ndate = \"2026-01-31\"\n";
        let message = AllowList::parse(text).unwrap_err().to_string();
        assert!(message.contains("reason"), "{message}");
    }
}
