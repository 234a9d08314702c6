//! The statistics of a container, in the form of cgroup version 2 that containerd's
//! clients read: Docker and Kubernetes refuse any other type.
//!
//! Owns the translation from the library's figures, which are runc's.

use caisson::container::statistics::{BlkioEntry, Pressure, PressureLine, Statistics};
use containerd_shim_protos::cgroups_v2::metrics::{
    CPUStat, HugeTlbStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PSIData, PSIStats,
    PidsStat,
};
use protobuf::MessageField;

const NS_PER_US: u64 = 1000;

/// Converts the statistics of a container.
pub(crate) fn metrics(statistics: &Statistics) -> Metrics {
    let huge_pages = statistics.hugetlb.iter().map(|(size, pages)| HugeTlbStat {
        pagesize: size.clone(),
        current: pages.usage,
        failcnt: pages.failcnt,
        ..Default::default()
    });
    Metrics {
        pids: Some(PidsStat {
            current: statistics.pids.current,
            limit: statistics.pids.limit,
            ..Default::default()
        })
        .into(),
        cpu: Some(cpu(statistics)).into(),
        memory: Some(memory(statistics)).into(),
        memory_events: Some(MemoryEvents {
            max: statistics.memory.usage.failcnt,
            ..Default::default()
        })
        .into(),
        io: Some(io(statistics)).into(),
        hugetlb: huge_pages.collect(),
        ..Default::default()
    }
}

fn cpu(statistics: &Statistics) -> CPUStat {
    let cpu = &statistics.cpu;
    CPUStat {
        usage_usec: cpu.usage.total / NS_PER_US,
        user_usec: cpu.usage.user / NS_PER_US,
        system_usec: cpu.usage.kernel / NS_PER_US,
        nr_periods: cpu.throttling.periods,
        nr_throttled: cpu.throttling.throttled_periods,
        throttled_usec: cpu.throttling.throttled_time / NS_PER_US,
        psi: pressure(cpu.psi.as_ref()),
        ..Default::default()
    }
}

fn memory(statistics: &Statistics) -> MemoryStat {
    let memory = &statistics.memory;
    let of = |name: &str| memory.raw.get(name).copied().unwrap_or(0);
    MemoryStat {
        anon: of("anon"),
        file: of("file"),
        kernel_stack: of("kernel_stack"),
        slab: of("slab"),
        sock: of("sock"),
        shmem: of("shmem"),
        file_mapped: of("file_mapped"),
        file_dirty: of("file_dirty"),
        file_writeback: of("file_writeback"),
        anon_thp: of("anon_thp"),
        inactive_anon: of("inactive_anon"),
        active_anon: of("active_anon"),
        inactive_file: of("inactive_file"),
        active_file: of("active_file"),
        unevictable: of("unevictable"),
        slab_reclaimable: of("slab_reclaimable"),
        slab_unreclaimable: of("slab_unreclaimable"),
        pgfault: of("pgfault"),
        pgmajfault: of("pgmajfault"),
        pgrefill: of("pgrefill"),
        pgscan: of("pgscan"),
        pgsteal: of("pgsteal"),
        pgactivate: of("pgactivate"),
        pgdeactivate: of("pgdeactivate"),
        usage: memory.usage.usage,
        usage_limit: memory.usage.limit,
        max_usage: memory.usage.max,
        swap_usage: memory.swap.usage.saturating_sub(memory.usage.usage),
        swap_limit: memory.swap.limit.saturating_sub(memory.usage.limit),
        psi: pressure(memory.psi.as_ref()),
        ..Default::default()
    }
}

/// The library has an entry for reads and one for writes; here they are members of one.
fn io(statistics: &Statistics) -> IOStat {
    let blkio = &statistics.blkio;
    let mut usage: Vec<IOEntry> = Vec::new();
    let mut add = |from: &BlkioEntry, member: fn(&mut IOEntry, bool) -> &mut u64| {
        let is_same = |entry: &&mut IOEntry| (entry.major, entry.minor) == (from.major, from.minor);
        let reads = from.op == "Read";
        if let Some(entry) = usage.iter_mut().find(is_same) {
            *member(entry, reads) = from.value;
            return;
        }
        let mut entry = IOEntry {
            major: from.major,
            minor: from.minor,
            ..Default::default()
        };
        *member(&mut entry, reads) = from.value;
        usage.push(entry);
    };
    for entry in &blkio.io_service_bytes_recursive {
        add(entry, |entry, reads| {
            if reads {
                &mut entry.rbytes
            } else {
                &mut entry.wbytes
            }
        });
    }
    for entry in &blkio.io_serviced_recursive {
        add(entry, |entry, reads| {
            if reads {
                &mut entry.rios
            } else {
                &mut entry.wios
            }
        });
    }
    IOStat {
        usage,
        psi: pressure(blkio.psi.as_ref()),
        ..Default::default()
    }
}

fn pressure(pressure: Option<&Pressure>) -> MessageField<PSIStats> {
    let line = |line: &PressureLine| {
        let data = PSIData {
            avg10: line.avg10,
            avg60: line.avg60,
            avg300: line.avg300,
            total: line.total,
            ..Default::default()
        };
        Some(data).into()
    };
    let stats = pressure.map(|pressure| PSIStats {
        some: line(&pressure.some),
        full: line(&pressure.full),
        ..Default::default()
    });
    stats.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use caisson::container::statistics::Blkio;

    #[test]
    fn reads_and_writes_of_a_device_are_one_entry() {
        let entry = |op: &str, value| BlkioEntry {
            major: 254,
            minor: 0,
            op: op.to_owned(),
            value,
        };
        let mut statistics = Statistics {
            blkio: Blkio {
                io_service_bytes_recursive: vec![entry("Read", 5), entry("Write", 6)],
                io_serviced_recursive: vec![entry("Read", 1)],
                psi: None,
            },
            ..Default::default()
        };
        statistics.cpu.usage.total = 7_000;
        statistics.memory.raw.insert("inactive_file".into(), 9);
        let metrics = metrics(&statistics);
        let [entry] = &metrics.io.usage[..] else {
            panic!("{metrics:?}");
        };
        assert_eq!((entry.rbytes, entry.wbytes, entry.rios), (5, 6, 1));
        assert_eq!(metrics.cpu.usage_usec, 7);
        assert_eq!(metrics.memory.inactive_file, 9);
    }
}
