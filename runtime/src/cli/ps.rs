//! `ps`: prints the processes of a container, as the guest counts them; as JSON,
//! the host's processes that stand for them, since callers look those up there.

use crate::cli::{Caller, Outcome, ps_columns};
use crate::container::handle;
use crate::container::handle::Container;

/// List the processes in a container
///
/// Numbers are those of the container's own kernel: no process of the host has them.
/// With --format json, what engines ask for: the pids of the host's processes that stand
/// for the container and for each exec in it, whose command lines show theirs.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  caisson ps web1                     as ps -ef shows them
  caisson ps web1 aux
  caisson ps web1 -o pid,rss,args
  caisson ps --format json web1       pids on the host, for engines")]
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
        if self.format == "json" {
            let owners = none_where_stopped(container.owners())?;
            return crate::cli::print(&serde_json::to_string(&owners)?);
        }
        let processes = none_where_stopped(container.processes())?;
        let columns = ps_columns::wanted(&self.options)?;
        crate::cli::print(&ps_columns::table(&processes, &columns))
    }
}

/// As runc: one that has stopped has none.
fn none_where_stopped<T>(found: Result<Vec<T>, handle::Error>) -> Result<Vec<T>, handle::Error> {
    match found {
        Err(handle::Error::NotRunning) => Ok(Vec::new()),
        other => other,
    }
}
