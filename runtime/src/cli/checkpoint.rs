//! `checkpoint`: refused, with all its flags known.

use std::path::PathBuf;

use crate::cli::{Caller, Outcome};
use crate::container::handle::Container;

/// What both `checkpoint` and `restore` say.
pub(super) const REFUSED: &str = "checkpoint and restore are not supported: a container is a whole machine here, which CRIU can't save; stop it and start a new one";

/// Flags that `checkpoint` and `restore` have in common.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag that runc has"
)]
pub(super) struct Criu {
    /// Directory of the saved images
    #[arg(long, value_name = "DIR")]
    image_path: Option<PathBuf>,
    /// Directory for logs and work files
    #[arg(long, value_name = "DIR")]
    work_path: Option<PathBuf>,
    /// Allow open TCP connections
    #[arg(long)]
    tcp_established: bool,
    /// Skip TCP connections that are being made
    #[arg(long)]
    tcp_skip_in_flight: bool,
    /// Allow external unix sockets
    #[arg(long)]
    ext_unix_sk: bool,
    /// Allow shell jobs
    #[arg(long)]
    shell_job: bool,
    /// Move memory on demand
    #[arg(long)]
    lazy_pages: bool,
    /// Handle file locks
    #[arg(long)]
    file_locks: bool,
    /// How to treat cgroups: soft, full, strict or ignore
    #[arg(long, value_name = "MODE")]
    manage_cgroups_mode: Option<String>,
    /// Save a namespace, but not what is in it
    #[arg(long, value_name = "NAMESPACE")]
    empty_ns: Vec<String>,
    /// Drop duplicate memory images
    #[arg(long)]
    auto_dedup: bool,
    /// Link files that have no name any more
    #[arg(long)]
    link_remap: bool,
}

/// Save a container's state: not supported, and refused
///
/// All of runc's flags are known, so that callers get one clear answer.
#[derive(Debug, clap::Args)]
pub(super) struct Checkpoint {
    #[command(flatten)]
    criu: Criu,
    /// Directory of earlier images
    #[arg(long, value_name = "DIR")]
    parent_path: Option<PathBuf>,
    /// Leave the container running
    #[arg(long)]
    leave_running: bool,
    /// Descriptor that is told when a lazy server is ready
    #[arg(long, value_name = "FD")]
    status_fd: Option<i32>,
    /// ADDRESS:PORT of a page server
    #[arg(long, value_name = "ADDRESS:PORT")]
    page_server: Option<String>,
    /// Save memory only, and leave the container running
    #[arg(long)]
    pre_dump: bool,
    /// Name of the container
    #[arg(value_name = "ID")]
    id: String,
}

impl Checkpoint {
    pub(super) fn run(self, caller: &Caller) -> Outcome {
        Container::find(&caller.store, &self.id)?;
        Err(REFUSED.into())
    }
}
