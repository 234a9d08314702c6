//! `caisson-fs`: reads its spec from descriptor 3, enters the jail, serves until
//! the machine disconnects. Takes no arguments. An error is one line on standard
//! error and exit code 1.

use std::error::Error as _;
use std::process::ExitCode;

use caisson_fs::server;

fn main() -> ExitCode {
    match server::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut line = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                line.push_str(": ");
                line.push_str(&error.to_string());
                cause = error.source();
            }
            eprintln!("{line}");
            ExitCode::FAILURE
        }
    }
}
