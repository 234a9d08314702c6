//! What checks have found, as text for people and as JSON for programs.
//!
//! Owns both forms and the exit status. Texts of the host (names of CPUs, of files) are in
//! them: nothing that a terminal obeys is printed.

use std::fmt::Write as _;

use serde::Serialize;

use crate::doctor::{Examined, Verdict};
use crate::log::error_line::printable;

/// The JSON form: names of members stay as they are.
#[derive(Serialize)]
struct Report<'e> {
    caisson_version: &'static str,
    /// The worst of all results.
    result: Verdict,
    checks: Vec<ReportedCheck<'e>>,
}

#[derive(Serialize)]
struct ReportedCheck<'e> {
    name: &'e str,
    result: Verdict,
    evidence: String,
    fix: Option<String>,
}

/// Lines of the form `FAIL  name  evidence`, each fix on a line of its own, and a summary.
#[must_use]
pub fn text(examined: &[Examined]) -> String {
    let width = examined.iter().map(|one| one.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for one in examined {
        let finding = &one.finding;
        let word = match finding.verdict {
            Verdict::Ok => "OK",
            Verdict::Warn => "WARN",
            Verdict::Fail => "FAIL",
        };
        let evidence = printable(&finding.evidence);
        // Writing to a string can't fail.
        writeln!(text, "{word:<4}  {:<width$}  {evidence}", one.name).ok();
        if let Some(fix) = &finding.fix {
            let indent = width + 8;
            writeln!(text, "{:indent$}fix: {}", "", printable(fix)).ok();
        }
    }
    let count = |verdict| {
        let all = examined.iter();
        all.filter(|one| one.finding.verdict == verdict).count()
    };
    let (ok, warn, fail) = (
        count(Verdict::Ok),
        count(Verdict::Warn),
        count(Verdict::Fail),
    );
    writeln!(text, "{ok} OK, {warn} WARN, {fail} FAIL").ok();
    text
}

/// One JSON object (docs/doctor.md).
///
/// # Errors
/// When it can't be written as JSON.
pub fn json(examined: &[Examined]) -> serde_json::Result<String> {
    let checks = examined.iter().map(|one| ReportedCheck {
        name: one.name,
        result: one.finding.verdict,
        evidence: printable(&one.finding.evidence),
        fix: one.finding.fix.as_deref().map(printable),
    });
    let report = Report {
        caisson_version: env!("CARGO_PKG_VERSION"),
        result: worst(examined),
        checks: checks.collect(),
    };
    Ok(format!("{}\n", serde_json::to_string_pretty(&report)?))
}

/// 1 if a check has failed.
#[must_use]
pub fn exit_status(examined: &[Examined]) -> u8 {
    u8::from(worst(examined) == Verdict::Fail)
}

fn worst(examined: &[Examined]) -> Verdict {
    let verdicts = examined.iter().map(|one| one.finding.verdict);
    verdicts.max().unwrap_or(Verdict::Ok)
}
