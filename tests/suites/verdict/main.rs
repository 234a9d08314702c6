//! Compares what one suite says of the control and of caisson.
//!
//! usage: caisson-verdict SUITE MACHINE RESULTS ALLOWED JSON
//!
//! RESULTS has the directories `control` and `caisson` with TAP files of the same
//! names. Writes JSON, prints tables, and ends with 1 if caisson fails a test
//! that the control passes and ALLOWED doesn't name. Runs no test.

mod allowed;
mod comparison;
mod table;
mod tap;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use allowed::AllowList;
use comparison::Comparison;

fn main() -> ExitCode {
    match judge() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("caisson-verdict: {message}");
            ExitCode::from(2)
        }
    }
}

/// Whether caisson does what it should.
fn judge() -> Result<bool, String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [suite, machine, results, allowed, json] = arguments.as_slice() else {
        return Err("usage: caisson-verdict SUITE MACHINE RESULTS ALLOWED JSON".into());
    };
    let results = Path::new(results);
    let allowed =
        AllowList::parse(&read(Path::new(allowed))?).map_err(|err| format!("{allowed}: {err}"))?;
    let comparison = Comparison {
        suite: suite.clone(),
        machine: machine.clone(),
        tests: comparison::compare(
            tap::read_folder(&results.join("control"))?,
            tap::read_folder(&results.join("caisson"))?,
            &allowed.on(machine),
        ),
    };
    let text = serde_json::to_string_pretty(&comparison).map_err(|err| err.to_string())?;
    let json = PathBuf::from(json);
    std::fs::write(&json, text).map_err(|err| format!("write {}: {err}", json.display()))?;
    writeln!(std::io::stdout(), "{}", table::of(&comparison)).map_err(|err| err.to_string())?;
    Ok(comparison.is_good())
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|err| format!("read {}: {err}", path.display()))
}
