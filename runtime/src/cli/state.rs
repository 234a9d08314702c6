//! `state`: prints what a container is doing, as JSON.

use crate::cli::{Caller, Outcome};
use crate::container::handle::Container;

/// Print the state of a container
///
/// The JSON object of the runtime specification, with what runc adds: rootfs, created,
/// owner. The status is created, running, paused or stopped.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: caisson state web1 | jq -r .status")]
pub(super) struct State {
    /// Name of the container
    #[arg(value_name = "ID")]
    id: String,
}

impl State {
    pub(super) fn run(self, caller: &Caller) -> Outcome {
        let state = Container::find(&caller.store, &self.id)?.state()?;
        crate::cli::print(&serde_json::to_string_pretty(&state)?)
    }
}
