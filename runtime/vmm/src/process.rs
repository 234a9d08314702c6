//! The course of the `caisson-vmm` process, around the machine.
//!
//! Whatever goes wrong is reported to the owner on the control socket, as the machine's
//! exit; before there is one, in the log.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::process::ExitCode;

use caisson_jail::{CapabilitySet, Identities, Jail};

use crate::control::{Exit, Report};
use crate::error_chain::chain;
use crate::machine::{self, Machine};
use crate::owner::Owner;
use crate::seccomp;
use crate::spec::{DescriptorNumber, MachineSpec};
use crate::sys::{Inherited, TakeError};

/// Where the spec is.
const SPEC_DESCRIPTOR: DescriptorNumber = 3;
/// Descriptors the process may have: some for each slot and vCPU, and one for each
/// stream of the guest.
const OPEN_FILES: u64 = 2048;

/// The process has no machine to run.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// A descriptor is wrong.
    #[error("take a descriptor")]
    Descriptor(#[from] TakeError),
    /// The spec can't be read.
    #[error("read the spec")]
    Read(#[from] io::Error),
    /// The spec is not one.
    #[error("parse the spec")]
    Parse(#[from] serde_json::Error),
}

/// Runs the machine whose spec is at descriptor 3. Success is any end of the machine
/// that is not an error.
#[must_use]
pub fn run() -> ExitCode {
    match run_spec() {
        Ok(Exit::Error { .. }) => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            // Without a reader of the log the line is lost.
            writeln!(io::stderr(), "caisson-vmm: {}", chain(&error)).ok();
            ExitCode::FAILURE
        }
    }
}

fn run_spec() -> Result<Exit, Error> {
    let mut inherited = Inherited::default();
    let spec = read_spec(inherited.take(SPEC_DESCRIPTOR)?.into())?;
    let mut owner = Owner::new(inherited.take(spec.control_fd)?);
    match run_machine(&spec, &mut inherited, &mut owner) {
        Ok(exit) => Ok(exit),
        Err(error) => {
            let reason = Exit::Error {
                message: chain(&error),
            };
            // A dead owner needs no report.
            let report = Report::Exit {
                reason: reason.clone(),
            };
            owner.report(&report).ok();
            Ok(reason)
        }
    }
}

fn run_machine(
    spec: &MachineSpec,
    inherited: &mut Inherited,
    owner: &mut Owner,
) -> Result<Exit, machine::Error> {
    let jail = Jail {
        descriptors: &spec.descriptors(),
        identities: Identities::Unique,
        capabilities: CapabilitySet::empty(),
        open_files: OPEN_FILES,
    };
    jail.enter()?;
    // Images are parsed from here on.
    seccomp::begin()?;
    Machine::build(spec, inherited)?.run(owner)
}

fn read_spec(mut file: File) -> Result<MachineSpec, Error> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}
