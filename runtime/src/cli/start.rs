//! `start`: runs the program of a created container.

use crate::cli::{Caller, Outcome};
use crate::container::handle::Container;

/// Run the program of a created container
///
/// Returns once the program runs, or with the reason why it can't.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: caisson start web1")]
pub(super) struct Start {
    /// Name of the container
    #[arg(value_name = "ID")]
    id: String,
}

impl Start {
    pub(super) fn run(self, caller: &Caller) -> Outcome {
        Container::find(&caller.store, &self.id)?.start(&caller.log)?;
        Ok(0)
    }
}
