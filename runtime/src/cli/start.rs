//! `start`: runs the program of a created container.

use super::{Caller, Outcome};
use crate::container::Container;

/// Run the program of a created container
#[derive(Debug, clap::Args)]
pub(super) struct Start {
    /// Name of the container
    #[arg(value_name = "ID")]
    id: String,
}

impl Start {
    pub(super) fn run(self, caller: &Caller) -> Outcome {
        Container::find(&caller.store, &self.id)?.start()?;
        Ok(0)
    }
}
