//! `pause` and `resume`: stop a container's processes, and let them go on.

use crate::cli::{Caller, Outcome};
use crate::container::handle::Container;

/// Freeze every process of a container
///
/// The processes stay where they are and get no processor time; the machine itself
/// goes on and costs next to nothing. A paused container can be resumed, killed and
/// updated; nothing can be started or exec'd in it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: caisson pause web1 && cp -r data backup; caisson resume web1")]
pub(super) struct Pause {
    /// Name of the container
    #[arg(value_name = "ID")]
    id: String,
}

impl Pause {
    pub(super) fn run(self, caller: &Caller) -> Outcome {
        Container::find(&caller.store, &self.id)?.pause()?;
        Ok(0)
    }
}

/// Let the processes of a paused container go on
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: caisson resume web1")]
pub(super) struct Resume {
    /// Name of the container
    #[arg(value_name = "ID")]
    id: String,
}

impl Resume {
    pub(super) fn run(self, caller: &Caller) -> Outcome {
        Container::find(&caller.store, &self.id)?.resume()?;
        Ok(0)
    }
}
