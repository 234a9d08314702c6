//! `doctor`: examines the host, and prints what stops containers and what to type.

use crate::cli::{Caller, Outcome, print};
use crate::doctor::{HostView, examine, report};

/// Examine this host: what stops containers, and what to type
///
/// Each check is OK, WARN (costs something, or stops what only some use) or FAIL (containers
/// don't start with the configuration that is in force), with what was seen and how to
/// mend it. Changes nothing. Works for root and for an ordinary user, whose containers need
/// more; run it as who runs containers.
///
/// The exit status is 0 without a FAIL, and 1 with one or more, or where it could not run.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  caisson doctor
  caisson doctor kvm cgroup-write
  caisson doctor --json | jq -r '.checks[] | select(.result == \"FAIL\") | .fix'")]
pub(super) struct Doctor {
    /// Only these checks; `kvm` means all that begin with `kvm-`
    #[arg(value_name = "CHECK")]
    checks: Vec<String>,
    /// Print JSON in place of text
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) fn run(self, caller: &Caller) -> Outcome {
        let host = HostView::here(caller.store.root())?;
        let examined = examine(&host, &self.checks)?;
        if self.json {
            print(&report::json(&examined)?)?;
        } else {
            print(&report::text(&examined))?;
        }
        Ok(report::exit_status(&examined))
    }
}
