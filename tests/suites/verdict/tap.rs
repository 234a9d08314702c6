//! Results in the Test Anything Protocol: one line for each test, after a plan
//! that says how many there are.
//!
//! A test that the plan promises and no line tells of was lost, and counts as
//! such: a program that dies early must not look better than one that fails.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

/// How one test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Outcome {
    /// As it should.
    #[serde(rename = "ok")]
    Ok,
    /// Not run: its surroundings lack something.
    #[serde(rename = "skipped")]
    Skipped,
    /// Not as it should.
    #[serde(rename = "not ok")]
    NotOk,
    /// Nothing was said of it.
    #[serde(rename = "no result")]
    Lost,
}

impl Outcome {
    /// Its name, as in the JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::NotOk => "not ok",
            Self::Lost => "no result",
        }
    }
}

/// Results by name.
pub(crate) type Results = BTreeMap<String, Outcome>;

/// The results of all `*.tap` files of a directory; names begin with the file's.
pub(crate) fn read_folder(folder: &Path) -> Result<Results, String> {
    let failed = |err: std::io::Error| format!("read {}: {err}", folder.display());
    let mut results = Results::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|ending| ending == "tap") {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let bytes = std::fs::read(&path).map_err(failed)?;
            results.extend(parse(&stem, &String::from_utf8_lossy(&bytes)));
        }
    }
    Ok(results)
}

/// Results of one file. What isn't a plan or a result is commentary.
pub(crate) fn parse(file: &str, text: &str) -> Results {
    let mut results = Results::new();
    let mut planned = 0;
    for line in text.lines() {
        if let Some(count) = line.strip_prefix("1..") {
            planned = count.trim().parse().unwrap_or(0);
        } else if let Some((name, outcome)) = result(line) {
            results.insert(format!("{file}/{name}"), outcome);
        }
    }
    for number in results.len()..planned {
        let name = format!("{file}/lost result {}", number + 1);
        results.insert(name, Outcome::Lost);
    }
    results
}

/// `ok 3 name # skip why`: number and directive are optional.
fn result(line: &str) -> Option<(&str, Outcome)> {
    let (rest, outcome) = match line.strip_prefix("not ok ") {
        Some(rest) => (rest, Outcome::NotOk),
        None => (line.strip_prefix("ok ")?, Outcome::Ok),
    };
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = rest.trim();
    let rest = rest.strip_prefix("- ").unwrap_or(rest);
    match rest.split_once(" # skip") {
        Some((name, _)) => Some((name, Outcome::Skipped)),
        None => Some((rest, outcome)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_with_and_without_numbers() {
        let results = parse(
            "kill",
            "1..3\nok 1 kill [a]\nnot ok - b\n# ok 4 no result\nok 3 c # skip test requires v2\n",
        );
        assert_eq!(results.len(), 3);
        assert_eq!(results["kill/kill [a]"], Outcome::Ok);
        assert_eq!(results["kill/b"], Outcome::NotOk);
        assert_eq!(results["kill/c"], Outcome::Skipped);
    }

    #[test]
    fn what_the_plan_promises_is_missed() {
        let results = parse("ps", "1..2\nok 1 ps\n");
        assert_eq!(results["ps/lost result 2"], Outcome::Lost);
        assert_eq!(results.len(), 2);
    }

    #[test]
    fn nothing_said_is_no_result() {
        assert!(parse("ps", "bash: line 1: bats: not found\n").is_empty());
    }
}
