//! The printed form: a line for each file of the suite, then every test that
//! differs. Markdown, so that it can be read anywhere.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::comparison::{Comparison, Test, Verdict};
use crate::tap::Outcome;

/// Counts of one file.
#[derive(Default)]
struct Line {
    control: usize,
    caisson: usize,
    allowed: usize,
    worse: usize,
    skipped: usize,
}

impl Line {
    fn add(&mut self, test: &Test) {
        self.control += usize::from(test.control == Outcome::Ok);
        self.caisson += usize::from(test.control == Outcome::Ok && test.caisson == Outcome::Ok);
        self.allowed += usize::from(test.verdict == Verdict::Allowed);
        self.worse += usize::from(test.verdict == Verdict::Worse);
        self.skipped += usize::from(test.control != Outcome::Ok);
    }

    fn write(&self, name: &str, text: &mut String) {
        // Writing to a string can't fail.
        writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} |",
            self.control, self.caisson, self.allowed, self.worse, self.skipped
        )
        .ok();
    }
}

/// The whole report.
pub(crate) fn of(comparison: &Comparison) -> String {
    let mut lines: BTreeMap<&str, Line> = BTreeMap::new();
    let mut total = Line::default();
    for test in &comparison.tests {
        let file = test.name.split('/').next().unwrap_or_default();
        lines.entry(file).or_default().add(test);
        total.add(test);
    }
    let mut text = format!(
        "## {} on {}\n\n| file | control passes | of these caisson | allowed to differ | worse | not compared |\n|---|---|---|---|---|---|\n",
        comparison.suite, comparison.machine
    );
    for (file, line) in &lines {
        line.write(file, &mut text);
    }
    total.write("all", &mut text);
    list(
        &mut text,
        "Worse than the control",
        comparison,
        Verdict::Worse,
    );
    list(&mut text, "Allowed to differ", comparison, Verdict::Allowed);
    list(
        &mut text,
        "Passes although the list allows it to fail: take it out of the list",
        comparison,
        Verdict::NotNeeded,
    );
    text
}

fn list(text: &mut String, title: &str, comparison: &Comparison, verdict: Verdict) {
    let tests = comparison.tests.iter();
    let mut tests = tests.filter(|test| test.verdict == verdict).peekable();
    if tests.peek().is_some() {
        writeln!(text, "\n{title}:\n").ok();
    }
    for test in tests {
        writeln!(text, "- {}: {}", test.name, test.caisson.name()).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allowed::Allowed;

    #[test]
    fn files_are_counted_and_differences_named() {
        let control = crate::tap::parse("kill", "ok a\nok b\nnot ok c");
        let caisson = crate::tap::parse("kill", "ok a\nnot ok b\nok c");
        let tests = crate::comparison::compare(control, caisson, &Allowed::default());
        let report = of(&Comparison {
            suite: "runc".into(),
            machine: "tcg".into(),
            tests,
        });
        assert!(report.contains("| kill | 2 | 1 | 0 | 1 | 1 |"), "{report}");
        assert!(report.contains("- kill/b: not ok"), "{report}");
        assert!(!report.contains("Allowed to differ:"), "{report}");
    }
}
