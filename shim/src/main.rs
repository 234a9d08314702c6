//! `containerd-shim-caisson-v2`: how containerd, and what is built on it, runs
//! containers of caisson.
//!
//! ```text
//! containerd -- start --> (starts a server, prints its address)
//!            -- ttrpc --> serve: Task and Sandbox services of one group
//!            -- delete -> (cleans up after a server that died)
//! ```
//! Owns the choice between these and the exit code. The library owns containers.

mod about;
mod arguments;
mod bootstrap;
mod cleanup;
mod console;
mod container;
mod containers;
mod error;
mod events;
mod group;
mod in_flight;
mod log;
mod metrics;
mod options;
mod paths;
mod pod;
mod process;
mod rootfs;
mod sandbox;
mod serve;
mod settings;
mod stdio;
mod task;
mod unserved;
mod wire;

use std::io::Write;
use std::process::ExitCode;

use arguments::{Action, Arguments};

fn main() -> ExitCode {
    caisson::container::signals::forget_callers();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            let line = caisson::log::error_line::chain(&*err);
            writeln!(std::io::stderr(), "containerd-shim-caisson-v2: {line}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse(std::env::args_os().skip(1))?;
    match arguments.action {
        Action::Version => about::print_version()?,
        Action::Describe => about::print_description()?,
        Action::Start => bootstrap::start(&arguments)?,
        Action::Serve => serve::serve(&arguments)?,
        Action::Delete => cleanup::delete(&arguments)?,
    }
    Ok(())
}
