//! A program of somebody else's, such as QEMU, in the jail of a helper: its spec,
//! and the way in. It begins with the descriptors it is given, files that were bound into
//! its root, and nothing else. What it makes of that, its seccomp filter too, is its own.

use std::convert::Infallible;
use std::fs::File;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::error::Step;
use crate::root::Kind;
use crate::{CapabilitySet, Error, Identities, Jail, inherited};

/// Where the spec is read from, as JSON.
const SPEC_DESCRIPTOR: RawFd = 3;

/// The spec of `caisson-jail`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Absolute path of the program in its root.
    pub program: PathBuf,
    /// Its arguments, without its own name. Its environment is empty.
    pub arguments: Vec<String>,
    /// What it sees in its root, beside its own descriptors in `/proc/self/fd`.
    pub files: Vec<Shown>,
    /// Descriptors that stay open, at the same numbers, beside the standard streams.
    pub descriptors: Vec<RawFd>,
    /// Most descriptors it may have open.
    pub open_files: u64,
}

/// One file or directory that the program sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// Where, relative to its root, without `.` and `..`.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// The detached mount.
    pub descriptor: RawFd,
}

/// Reads the spec, enters the jail, and becomes the program.
///
/// # Errors
/// [`Error::Refused`] with the step, of which the execution is the last.
pub fn become_it() -> Result<Infallible, Error> {
    let spec = File::from(inherited(SPEC_DESCRIPTOR)?);
    let spec: Spec = serde_json::from_reader(spec).map_err(Step::ReadSpec.refused())?;
    // Taken, they are closed by the execution; the others are not.
    let mounts = spec.files.iter().map(|file| inherited(file.descriptor));
    let mounts = mounts.collect::<Result<Vec<OwnedFd>, Error>>()?;
    let of_files = spec.files.iter().map(|file| file.descriptor);
    let descriptors: Vec<RawFd> = spec.descriptors.iter().copied().chain(of_files).collect();
    let jail = Jail {
        descriptors: &descriptors,
        identities: Identities::Own,
        capabilities: CapabilitySet::empty(),
        open_files: spec.open_files,
    };
    jail.enter_furnished(|root| {
        for (file, mount) in spec.files.iter().zip(&mounts) {
            root.attach(&file.path, file.kind, mount)?;
        }
        root.attach_own_descriptors()
    })?;
    let mut command = Command::new(&spec.program);
    let err = command.args(&spec.arguments).env_clear().exec();
    Err(Step::Execute(spec.program).refused()(err))
}
