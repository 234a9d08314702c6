//! `ps`: prints the processes of a container, as the guest counts them.

use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use super::{Caller, Outcome};
use crate::container::Container;
use crate::owner::ProcessEntry;

/// List the processes in a container; pids are those of its own kernel
#[derive(Debug, clap::Args)]
pub(super) struct Ps {
    /// table or json
    #[arg(long, short, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    format: String,
    /// Name of the container
    #[arg(value_name = "ID")]
    id: String,
    /// Accepted for compatibility: there is one form of table
    #[arg(
        value_name = "PS-OPTIONS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    options: Vec<String>,
}

impl Ps {
    pub(super) fn run(self, caller: &Caller) -> Outcome {
        let processes = Container::find(&caller.store, &self.id)?.processes()?;
        if self.format == "json" {
            let pids: Vec<u32> = processes.iter().map(|process| process.pid).collect();
            return super::print(&serde_json::to_string(&pids)?);
        }
        super::print(&table(&processes)?)
    }
}

fn table(processes: &[ProcessEntry]) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    writeln!(
        text,
        "{:8} {:>7} {:>7}  {:20} {:8} {:>8} CMD",
        "UID", "PID", "PPID", "STIME", "TTY", "TIME"
    )?;
    for process in processes {
        let started = UNIX_EPOCH + Duration::from_nanos(process.started_unix_ns);
        let started = humantime::format_rfc3339_seconds(started).to_string();
        let seconds = process.cpu_ms / 1000;
        let time = format!(
            "{:02}:{:02}:{:02}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        );
        let ProcessEntry {
            uid,
            pid,
            parent_pid,
            tty,
            command,
            ..
        } = process;
        writeln!(
            text,
            "{uid:<8} {pid:>7} {parent_pid:>7}  {started:20} {tty:8} {time:>8} {command}"
        )?;
    }
    Ok(text)
}
