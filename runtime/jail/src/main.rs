//! `caisson-jail`: enters the jail and becomes the program that its spec names. Takes no
//! arguments. An error is one line on standard error and exit code 1.

use std::error::Error as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Err(error) = caisson_jail::program::become_it();
    let cause = error.source().map(|cause| format!(": {cause}"));
    eprintln!("{error}{}", cause.unwrap_or_default());
    ExitCode::FAILURE
}
