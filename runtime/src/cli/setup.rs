//! `setup`: enters caisson into the configuration of a container engine.

use std::path::PathBuf;

use crate::cli::{Outcome, print};
use crate::setup::{Aim, Engine};

/// Tell a container engine of caisson
///
/// Changes the engine's configuration so that it knows a runtime `caisson`, and prints
/// the change as a diff. What else stands there stays as it is, remarks and order too;
/// doing it twice changes nothing. No engine is restarted: the last line says how.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  caisson setup docker --dry-run
  caisson setup podman && podman --runtime caisson run --rm IMAGE uname -r
  caisson setup containerd --undo

Docker and containerd also find the shim by its name, without an entry:
  docker run --runtime io.containerd.caisson.v2 IMAGE uname -r")]
pub(super) struct Setup {
    /// The engine
    #[arg(value_name = "ENGINE")]
    engine: Engine,
    /// Only print what would change
    #[arg(long)]
    dry_run: bool,
    /// Take the entry out again
    #[arg(long)]
    undo: bool,
    /// Configuration file, in place of the engine's standard one
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Setup {
    pub(super) fn run(self) -> Outcome {
        let file = self
            .file
            .as_deref()
            .unwrap_or_else(|| self.engine.default_file());
        let aim = if self.undo {
            Aim::Removed
        } else {
            Aim::Entered
        };
        let change = self.engine.plan(file, aim)?;
        if change.is_none() {
            print(&format!("{}: nothing to change\n", file.display()))?;
        } else {
            print(&change.diff())?;
            if !self.dry_run {
                change.make()?;
                print(&format!("{}\n", change.next_step))?;
            }
        }
        match &change.hint {
            Some(hint) => print(&format!("{hint}\n")),
            None => Ok(0),
        }
    }
}
