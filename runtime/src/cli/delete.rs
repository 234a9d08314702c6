//! `delete`: removes a container.

use crate::cli::{Caller, Outcome};
use crate::container::handle;
use crate::container::handle::Error;
use crate::container::store;

/// Remove a container that has stopped
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  caisson delete web1
  caisson delete --force web1     kill it first; succeeds also if there is none")]
pub(super) struct Delete {
    /// Kill it first if it still runs; one that doesn't exist is a success
    #[arg(long, short)]
    force: bool,
    /// Name of the container
    #[arg(value_name = "ID")]
    id: String,
}

impl Delete {
    pub(super) fn run(self, caller: &Caller) -> Outcome {
        let deleted = handle::delete(&caller.store, &self.id, self.force, &caller.log);
        match deleted {
            Err(Error::Store(store::Error::NotExist(_))) if self.force => Ok(0),
            deleted => {
                deleted?;
                Ok(0)
            }
        }
    }
}
