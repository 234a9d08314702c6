//! `features`: prints what this runtime can do (runtime-spec, features.md).

use crate::cli::Outcome;
use crate::oci::features::features;

/// Print what this runtime can do, as JSON
#[derive(Debug, clap::Args)]
pub(super) struct Features {}

impl Features {
    #[expect(clippy::unused_self, reason = "every verb has the same form")]
    pub(super) fn run(self) -> Outcome {
        crate::cli::print(&format!("{}\n", serde_json::to_string_pretty(&features())?))
    }
}
