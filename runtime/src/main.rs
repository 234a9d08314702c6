//! The `caisson` command: parse, run one verb, print one error line, exit.
//!
//! Owns the exit code and nothing else; the verbs are in `caisson::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    caisson::container::signals::forget_callers();
    ExitCode::from(caisson::cli::main(std::env::args_os()))
}
