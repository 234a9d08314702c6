//! What a container uses, in the form in which runc's `events` tells it.
//!
//! Owns that form and the translation of the guest's figures into it. Units are
//! runc's: nanoseconds, bytes, counts. Members that are zero are left out where
//! runc leaves them out, so that both are read by the same programs.

use std::collections::{BTreeMap, HashMap};

use caisson_protocol::client::agent;
use serde::{Deserialize, Serialize};

/// One look at everything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Processor time.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Memory,
    /// Tasks.
    pub pids: Pids,
    /// Block devices of the guest.
    pub blkio: Blkio,
    /// Huge pages, by size.
    pub hugetlb: BTreeMap<String, HugePages>,
}

/// Processor time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// Time used.
    pub usage: CpuUsage,
    /// Time that a quota has kept from being used.
    pub throttling: Throttling,
    /// Time in which tasks waited for a processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Nanoseconds of processor time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuUsage {
    /// All of it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub total: u64,
    /// In the guest's kernel.
    pub kernel: u64,
    /// In programs.
    pub user: u64,
}

/// What a quota has done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Throttling {
    /// Periods that have passed.
    #[serde(skip_serializing_if = "is_zero")]
    pub periods: u64,
    /// Periods in which the quota was used up.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_periods: u64,
    /// Nanoseconds that tasks were held up.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_time: u64,
}

/// Memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Bytes of page cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache: u64,
    /// All memory.
    pub usage: MemoryEntry,
    /// Memory and swap together, as cgroup version 1 counts them.
    pub swap: MemoryEntry,
    /// The kernel's own names (memory.stat).
    pub raw: BTreeMap<String, u64>,
    /// Time in which tasks waited for memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One count of bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryEntry {
    /// The greatest number without limit.
    pub limit: u64,
    /// Now.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// The most there has been.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pids {
    /// Now.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// Left out without limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// Block devices.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Blkio {
    /// Bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    /// Requests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
    /// Time in which tasks waited for devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One count of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioEntry {
    /// Its number in the guest.
    #[serde(skip_serializing_if = "is_zero")]
    pub major: u64,
    /// The same.
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: u64,
    /// `Read` or `Write`.
    pub op: String,
    /// The count.
    #[serde(skip_serializing_if = "is_zero")]
    pub value: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugePages {
    /// Now.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Pressure stall information.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// Some tasks waited.
    pub some: PressureLine,
    /// All tasks waited.
    pub full: PressureLine,
}

/// Per cent of the last 10, 60 and 300 seconds; microseconds since the beginning.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PressureLine {
    /// Of 10 seconds.
    pub avg10: f64,
    /// Of 60 seconds.
    pub avg60: f64,
    /// Of 300 seconds.
    pub avg300: f64,
    /// Since the beginning.
    pub total: u64,
}

impl From<agent::Statistics> for Statistics {
    fn from(mut guest: agent::Statistics) -> Self {
        let memory = guest.memory.take().unwrap_or_default();
        Self {
            cpu: Cpu {
                psi: guest.cpu_pressure.take().map(Into::into),
                ..cpu(&guest.cpu)
            },
            memory: Memory {
                psi: guest.memory_pressure.take().map(Into::into),
                ..Memory::from(memory)
            },
            pids: Pids {
                current: guest.pids_current,
                limit: if guest.pids_max == u64::MAX {
                    0
                } else {
                    guest.pids_max
                },
            },
            blkio: Blkio {
                psi: guest.io_pressure.take().map(Into::into),
                io_service_bytes_recursive: counts(&guest.io, ["rbytes", "wbytes"]),
                io_serviced_recursive: counts(&guest.io, ["rios", "wios"]),
            },
            hugetlb: guest.huge_pages.into_iter().map(huge_pages).collect(),
        }
    }
}

const NS_PER_US: u64 = 1000;

fn cpu(stat: &HashMap<String, u64>) -> Cpu {
    let value = |name: &str| stat.get(name).copied().unwrap_or(0);
    let ns = |name: &str| value(name).saturating_mul(NS_PER_US);
    Cpu {
        usage: CpuUsage {
            total: ns("usage_usec"),
            kernel: ns("system_usec"),
            user: ns("user_usec"),
        },
        throttling: Throttling {
            periods: value("nr_periods"),
            throttled_periods: value("nr_throttled"),
            throttled_time: ns("throttled_usec"),
        },
        psi: None,
    }
}

impl From<agent::MemoryStatistics> for Memory {
    fn from(guest: agent::MemoryStatistics) -> Self {
        let usage = MemoryEntry {
            limit: guest.max,
            usage: guest.current,
            max: guest.peak,
            failcnt: guest.events.get("max").copied().unwrap_or(0),
        };
        Self {
            cache: guest.stat.get("file").copied().unwrap_or(0),
            swap: MemoryEntry {
                limit: guest.max.saturating_add(guest.swap_max),
                usage: guest.current.saturating_add(guest.swap_current),
                ..MemoryEntry::default()
            },
            usage,
            raw: guest.stat.into_iter().collect(),
            psi: None,
        }
    }
}

fn counts(devices: &[agent::IoStatistics], [read, write]: [&str; 2]) -> Vec<BlkioEntry> {
    let of_device = |device: &agent::IoStatistics| {
        [("Read", read), ("Write", write)].map(|(op, name)| BlkioEntry {
            major: device.major.into(),
            minor: device.minor.into(),
            op: op.to_owned(),
            value: device.counters.get(name).copied().unwrap_or(0),
        })
    };
    devices.iter().flat_map(of_device).collect()
}

fn huge_pages(guest: agent::HugePageStatistics) -> (String, HugePages) {
    let pages = HugePages {
        usage: guest.current,
        failcnt: guest.failures,
    };
    (guest.page_size, pages)
}

impl From<agent::Pressure> for Pressure {
    fn from(mut guest: agent::Pressure) -> Self {
        let line = |line: Option<agent::PressureLine>| {
            let line = line.unwrap_or_default();
            PressureLine {
                avg10: line.avg10,
                avg60: line.avg60,
                avg300: line.avg300,
                total: line.total,
            }
        };
        Self {
            some: line(guest.some.take()),
            full: line(guest.full.take()),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(pairs: &[(&str, u64)]) -> HashMap<String, u64> {
        let owned = |(name, value): &(&str, u64)| ((*name).to_owned(), *value);
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn figures_appear_under_runcs_names_and_in_its_units() {
        let memory = agent::MemoryStatistics {
            current: 10,
            max: 100,
            stat: table(&[("file", 4)]),
            ..Default::default()
        };
        let device = agent::IoStatistics {
            major: 254,
            counters: table(&[("rbytes", 4096)]),
            ..Default::default()
        };
        let guest = agent::Statistics {
            cpu: table(&[("usage_usec", 5), ("nr_throttled", 2)]),
            memory: Some(memory).into(),
            pids_current: 3,
            pids_max: u64::MAX,
            io: vec![device],
            ..Default::default()
        };
        let json = serde_json::to_value(Statistics::from(guest)).unwrap();
        assert_eq!(json["cpu"]["usage"]["total"], 5000);
        assert_eq!(json["cpu"]["throttling"]["throttledPeriods"], 2);
        assert_eq!(json["memory"]["usage"]["limit"], 100);
        assert_eq!(json["memory"]["cache"], 4);
        assert_eq!(json["pids"], serde_json::json!({"current": 3}));
        let bytes = &json["blkio"]["ioServiceBytesRecursive"];
        assert_eq!(bytes[0]["op"], "Read");
        assert_eq!(bytes[0]["value"], 4096);
    }
}
