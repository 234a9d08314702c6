//! `caisson-vsock`: the vsock device of QEMU machines. One front end, one life.

use std::process::ExitCode;

use caisson_vmm::error_chain::chain;

fn main() -> ExitCode {
    match caisson_vmm::vsock_backend::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("caisson-vsock: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}
