//! `list`: prints all containers of one state directory.

use std::fmt::Write;

use crate::cli::{Caller, Outcome};
use crate::container::handle::{Container, Error, State};
use crate::container::store;
use crate::log::Level;
use crate::log::error_line;

/// List containers
///
/// Those of one state directory (--root), whichever user made them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  caisson list
  caisson list --format json
  caisson list -q | xargs -n1 caisson delete --force")]
pub(super) struct List {
    /// table or json
    #[arg(long, short, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    format: String,
    /// Print names only
    #[arg(long, short)]
    quiet: bool,
}

impl List {
    pub(super) fn run(self, caller: &Caller) -> Outcome {
        // One that is being created, or vanishes meanwhile, is left out.
        let mut states = Vec::new();
        for name in caller.store.names()? {
            let found = Container::find(&caller.store, &name);
            match found.and_then(|container| container.state()) {
                Ok(state) => states.push(state),
                Err(Error::Store(store::Error::NotExist(_))) => {}
                Err(err) => {
                    let line = format!("container {name}: {}", error_line::chain(&err));
                    caller.log.write(Level::Warning, &line);
                }
            }
        }
        if self.quiet {
            return crate::cli::print(
                &states
                    .iter()
                    .map(|state| format!("{}\n", state.id))
                    .collect::<String>(),
            );
        }
        if self.format == "json" {
            return crate::cli::print(&serde_json::to_string(&states)?);
        }
        crate::cli::print(&table(&states)?)
    }
}

fn table(states: &[State]) -> Result<String, std::fmt::Error> {
    let width = states
        .iter()
        .map(|state| state.id.len())
        .max()
        .unwrap_or(0)
        .max(2);
    let mut text = String::new();
    writeln!(
        text,
        "{:width$}  {:>8}  {:8}  {:30}  {:30}  OWNER",
        "ID", "PID", "STATUS", "BUNDLE", "CREATED"
    )?;
    for state in states {
        let State {
            id,
            pid,
            status,
            bundle,
            created,
            owner,
            ..
        } = state;
        let (status, bundle) = (status.to_string(), bundle.display().to_string());
        writeln!(
            text,
            "{id:width$}  {pid:>8}  {status:8}  {bundle:30}  {created:30}  {owner}"
        )?;
    }
    Ok(text)
}
