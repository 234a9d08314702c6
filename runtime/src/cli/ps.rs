//! `ps`: prints the processes of a container, as the guest counts them.

use super::{Caller, Outcome, ps_columns};
use crate::container::{self, Container};

/// List the processes in a container
///
/// Numbers are those of the container's own kernel: no process of the host has them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  caisson ps web1                     as ps -ef shows them
  caisson ps web1 aux
  caisson ps web1 -o pid,rss,args
  caisson ps --format json web1       the numbers alone")]
pub(super) struct Ps {
    /// table or json
    #[arg(long, short, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    format: String,
    /// Name of the container
    #[arg(value_name = "ID")]
    id: String,
    /// Options of ps: -ef, aux, or -o with a list of columns
    #[arg(
        value_name = "PS-OPTIONS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    options: Vec<String>,
}

impl Ps {
    pub(super) fn run(self, caller: &Caller) -> Outcome {
        let container = Container::find(&caller.store, &self.id)?;
        let processes = match container.processes() {
            Ok(processes) => processes,
            // As runc: one that has stopped has none.
            Err(container::Error::NotRunning) => Vec::new(),
            Err(err) => return Err(err.into()),
        };
        if self.format == "json" {
            let pids: Vec<u32> = processes.iter().map(|process| process.pid).collect();
            return super::print(&serde_json::to_string(&pids)?);
        }
        let columns = ps_columns::wanted(&self.options)?;
        super::print(&ps_columns::table(&processes, &columns))
    }
}
