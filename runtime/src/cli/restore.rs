//! `restore`: refused, with all its flags known.

use std::path::PathBuf;

use crate::cli::checkpoint::{Criu, REFUSED};
use crate::cli::{Caller, Outcome};

/// Restore a saved container: not supported, and refused
///
/// All of runc's flags are known, so that callers get one clear answer.
#[derive(Debug, clap::Args)]
pub(super) struct Restore {
    #[command(flatten)]
    criu: Criu,
    /// Directory of the bundle
    #[arg(long, short, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Socket that receives the master of the container's terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Return once the container runs
    #[arg(long, short)]
    detach: bool,
    /// File that receives the container's pid
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Do not reap orphans
    #[arg(long)]
    no_subreaper: bool,
    /// Do not pivot
    #[arg(long)]
    no_pivot: bool,
    /// LSM profile
    #[arg(long, value_name = "PROFILE")]
    lsm_profile: Option<String>,
    /// LSM context of mounts
    #[arg(long, value_name = "CONTEXT")]
    lsm_mount_context: Option<String>,
    /// Name of the container
    #[arg(value_name = "ID")]
    id: String,
}

impl Restore {
    #[expect(clippy::unused_self, reason = "every verb has the same form")]
    pub(super) fn run(self, _: &Caller) -> Outcome {
        Err(REFUSED.into())
    }
}
