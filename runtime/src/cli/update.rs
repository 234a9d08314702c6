//! `update`: changes the limits of a container that exists.
//!
//! Owns the flags and their conversion to OCI `linux.resources`. What a limit
//! means is the guest's to know.

use std::io::Read;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::cli::{Caller, Outcome, failed, sizes};
use crate::container::handle::Container;

/// Change the limits of a container
///
/// Limits that are not mentioned stay as they are. Sizes may end in b, k, m, g or t;
/// -1 is no limit.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  caisson update --memory 256m --pids-limit 100 web1
  caisson update --cpu-quota 50000 --cpu-period 100000 web1     half a processor
  echo '{\"cpu\": {\"shares\": 512}}' | caisson update -r - web1")]
pub(super) struct Update {
    /// File with an OCI linux.resources object, or - for standard input; other flags
    /// are then ignored
    #[arg(long, short, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Weight of block I/O, from 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<String>,
    /// Period of the CPU quota in microseconds
    #[arg(long, value_name = "US")]
    cpu_period: Option<String>,
    /// CPU time of each period in microseconds
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    cpu_quota: Option<String>,
    /// CPU time in microseconds that may be saved up
    #[arg(long, value_name = "US")]
    cpu_burst: Option<String>,
    /// Share of CPU time against other containers
    #[arg(long, value_name = "SHARES")]
    cpu_share: Option<String>,
    /// Refused: cgroup version 2 has no realtime budget
    #[arg(long, value_name = "US")]
    cpu_rt_period: Option<String>,
    /// Refused: cgroup version 2 has no realtime budget
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    cpu_rt_runtime: Option<String>,
    /// CPUs of the host to run on, such as 0-2,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes of the host to use
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// 1 to run only when nothing else wants to, else 0
    #[arg(long, value_name = "0|1")]
    cpu_idle: Option<String>,
    /// Limit of memory
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory: Option<String>,
    /// Memory that is taken last
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_reservation: Option<String>,
    /// Limit of memory and swap together
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Ignored: cgroup version 2 doesn't count kernel memory apart
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    kernel_memory: Option<String>,
    /// Ignored: cgroup version 2 doesn't count kernel memory apart
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    kernel_memory_tcp: Option<String>,
    /// Greatest number of tasks
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<String>,
    /// Schema of the L3 cache, in the form of resctrl
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,
    /// Schema of memory bandwidth, in the form of resctrl
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,
    /// Name of the container
    #[arg(value_name = "ID")]
    id: String,
}

impl Update {
    pub(super) fn run(self, caller: &Caller) -> Outcome {
        let container = Container::find(&caller.store, &self.id)?;
        let resources = match &self.resources {
            Some(path) => read(path)?,
            None => self.flags()?,
        };
        container.update(&resources)?;
        Ok(0)
    }

    fn flags(&self) -> Result<Value, String> {
        if self.l3_cache_schema.is_some() || self.mem_bw_schema.is_some() {
            return Err(
                "--l3-cache-schema and --mem-bw-schema: the container has no resctrl group"
                    .to_owned(),
            );
        }
        let mut flags = Flags(Map::new());
        flags.number::<u16>(
            "blockIO",
            "weight",
            Flag::new("blkio-weight", &self.blkio_weight),
        )?;
        flags.number::<u64>("cpu", "period", Flag::new("cpu-period", &self.cpu_period))?;
        flags.number::<i64>("cpu", "quota", Flag::new("cpu-quota", &self.cpu_quota))?;
        flags.number::<u64>("cpu", "burst", Flag::new("cpu-burst", &self.cpu_burst))?;
        flags.number::<u64>("cpu", "shares", Flag::new("cpu-share", &self.cpu_share))?;
        flags.number::<u64>(
            "cpu",
            "realtimePeriod",
            Flag::new("cpu-rt-period", &self.cpu_rt_period),
        )?;
        flags.number::<i64>(
            "cpu",
            "realtimeRuntime",
            Flag::new("cpu-rt-runtime", &self.cpu_rt_runtime),
        )?;
        flags.number::<i64>("cpu", "idle", Flag::new("cpu-idle", &self.cpu_idle))?;
        flags.text("cpu", "cpus", self.cpuset_cpus.as_deref());
        flags.text("cpu", "mems", self.cpuset_mems.as_deref());
        flags.size("memory", "limit", Flag::new("memory", &self.memory))?;
        flags.size(
            "memory",
            "reservation",
            Flag::new("memory-reservation", &self.memory_reservation),
        )?;
        flags.size(
            "memory",
            "swap",
            Flag::new("memory-swap", &self.memory_swap),
        )?;
        flags.number::<i64>("pids", "limit", Flag::new("pids-limit", &self.pids_limit))?;
        Ok(Value::Object(flags.0))
    }
}

/// A flag of the command line.
#[derive(Clone, Copy)]
struct Flag<'a> {
    /// Without its dashes.
    name: &'static str,
    /// Its value; an empty text is as good as no flag.
    text: Option<&'a str>,
}

impl<'a> Flag<'a> {
    fn new(name: &'static str, value: &'a Option<String>) -> Self {
        let text = value.as_deref().filter(|text| !text.is_empty());
        Self { name, text }
    }
}

/// The object that the flags add up to.
struct Flags(Map<String, Value>);

impl Flags {
    fn set(&mut self, group: &str, member: &str, value: Value) {
        let group = self.0.entry(group).or_insert_with(|| json!({}));
        group[member] = value;
    }

    fn number<T>(&mut self, group: &str, member: &str, flag: Flag<'_>) -> Result<(), String>
    where
        T: std::str::FromStr + Into<Value>,
        T::Err: std::fmt::Display,
    {
        let Some(text) = flag.text else {
            return Ok(());
        };
        let number: T = text
            .parse()
            .map_err(|err| format!("invalid value for {}: {text:?}: {err}", flag.name))?;
        self.set(group, member, number.into());
        Ok(())
    }

    fn size(&mut self, group: &str, member: &str, flag: Flag<'_>) -> Result<(), String> {
        let Some(text) = flag.text else {
            return Ok(());
        };
        let bytes = sizes::bytes(text).ok_or_else(|| {
            format!(
                "invalid value for {}: {text:?} is not a size such as 64m, or -1",
                flag.name
            )
        })?;
        self.set(group, member, bytes.into());
        Ok(())
    }

    fn text(&mut self, group: &str, member: &str, given: Option<&str>) {
        if let Some(text) = given.filter(|text| !text.is_empty()) {
            self.set(group, member, text.into());
        }
    }
}

fn read(path: &std::path::Path) -> Result<Value, Box<dyn std::error::Error>> {
    let mut text = Vec::new();
    if path.as_os_str() == "-" {
        std::io::stdin()
            .read_to_end(&mut text)
            .map_err(failed("read standard input"))?;
    } else {
        text = std::fs::read(path).map_err(failed(format!("read {}", path.display())))?;
    }
    let name = if path.as_os_str() == "-" {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    Ok(serde_json::from_slice(&text).map_err(failed(format!("parse {name}")))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_is_changed() {
        let mut flags = Flags(Map::new());
        flags
            .size("memory", "limit", Flag::new("memory", &Some("1k".into())))
            .unwrap();
        flags
            .number::<i64>("cpu", "quota", Flag::new("cpu-quota", &Some(String::new())))
            .unwrap();
        assert_eq!(Value::Object(flags.0), json!({"memory": {"limit": 1024}}));
    }
}
