//! `caisson-vsock`: the vsock device of QEMU machines. One front end, one life.

use std::error::Error;
use std::process::ExitCode;

fn main() -> ExitCode {
    match caisson_vmm::vsock_backend::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("caisson-vsock: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

fn one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}
