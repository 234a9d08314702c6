//! `caisson-fuzz [NAME...]`: runs the targets of these names, or all, one after the
//! other, and prints a line for each.
#![expect(clippy::print_stdout, reason = "a program whose result is its output")]

use std::path::Path;
use std::process::ExitCode;

use caisson_fuzz::{Corpus, Limits, TARGETS, Target, drive};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("caisson-fuzz: {error}");
            ExitCode::FAILURE
        }
    }
}

/// True: nothing was found.
fn run() -> Result<bool, String> {
    let limits = Limits::from_environment()?;
    let names: Vec<String> = std::env::args().skip(1).collect();
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora");
    let mut is_clean = true;
    for target in chosen(&names)? {
        match drive(target, &Corpus::of(&corpora, target.name), &limits) {
            Ok(outcome) => println!("{outcome}"),
            Err(failure) => {
                println!("{failure}");
                is_clean = false;
            }
        }
    }
    Ok(is_clean)
}

fn chosen(names: &[String]) -> Result<Vec<&'static Target>, String> {
    if names.is_empty() {
        return Ok(TARGETS.iter().collect());
    }
    let find = |name: &String| {
        let found = TARGETS.iter().find(|target| target.name == name.as_str());
        found.ok_or_else(|| {
            let known: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            format!("no target is called {name}; there are {}", known.join(", "))
        })
    };
    names.iter().map(find).collect()
}
