//! `console`: prints what the kernel of a container's machine has written.

use crate::cli::{Caller, Outcome, print};
use crate::container::handle::Container;

/// Print the last lines of a machine's console
///
/// They are what the guest's kernel and agent report: faults of the kernel, processes that
/// were killed for lack of memory. 64 lines are kept, of 400 bytes each. A container of a
/// pod shows the console of the pod's machine.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: caisson console web1")]
pub(super) struct Console {
    /// Name of the container
    #[arg(value_name = "ID")]
    id: String,
}

impl Console {
    pub(super) fn run(self, caller: &Caller) -> Outcome {
        let lines = Container::find(&caller.store, &self.id)?.console()?;
        let text: String = lines.into_iter().map(|line| line + "\n").collect();
        print(&text)
    }
}
