//! PID 1 of the guest. Boots the machine, then serves the host for ever.
//!
//! Owns the report of a fatal error: its cause is logged on the console, and the end of
//! PID 1 is a kernel panic, which the host sees.

use std::{fs::File, io::Write, process::ExitCode};

use caisson_agent::{boot, failure::Failure, transport::Transport};

fn main() -> ExitCode {
    if std::process::id() != 1 {
        // The agent mounts over everything, which is right in its own machine alone.
        let line = "caisson-agent: it is the first process of caisson's guest; use caisson\n";
        drop(std::io::stderr().write_all(line.as_bytes()));
        return ExitCode::from(NOT_A_MACHINE);
    }
    std::panic::set_hook(Box::new(|panic| log_fatal(&panic.to_string())));
    if let Err(failure) = boot_and_serve() {
        log_fatal(&failure.line());
    }
    ExitCode::FAILURE
}

fn boot_and_serve() -> Result<(), Failure> {
    boot::before_connecting()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Refused(format!("start the event loop: {error}")))?;
    runtime.block_on(caisson_agent::run(
        Transport::vsock(),
        boot::before_containers,
    ))
}

/// Through the kernel's log, because not every machine has a console device.
fn log_fatal(line: &str) {
    if let Ok(mut log) = File::options().write(true).open("/dev/kmsg") {
        // <2>: critical, so that it gets past a quiet console.
        drop(writeln!(log, "<2>caisson-agent: {line}"));
    }
}

/// Exit code where the agent isn't the first process.
const NOT_A_MACHINE: u8 = 2;
