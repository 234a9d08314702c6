//! What a container uses, from the files of its cgroup.
//!
//! Owns the reading of their forms: single numbers, "key value" lines, "key=value"
//! words and pressure. A file that this kernel doesn't have counts as nothing.

use std::{collections::HashMap, fs, path::Path};

use caisson_protocol::server::agent::{
    HugePageStatistics, IoStatistics, MemoryStatistics, Pressure, PressureLine, Statistics,
};

/// Reads every figure of the cgroup whose directory this is.
#[must_use]
pub(crate) fn read(directory: &Path) -> Statistics {
    let files = Files(directory);
    Statistics {
        cpu: files.table("cpu.stat"),
        cpu_pressure: files.pressure("cpu").into(),
        memory: Some(files.memory()).into(),
        memory_pressure: files.pressure("memory").into(),
        pids_current: files.number("pids.current"),
        pids_max: files.limit("pids.max"),
        io: io_lines(&files.text("io.stat")),
        io_pressure: files.pressure("io").into(),
        huge_pages: files.huge_pages(),
        ..Default::default()
    }
}

/// The files of one directory.
#[derive(Debug, Clone, Copy)]
struct Files<'a>(&'a Path);

impl Files<'_> {
    fn text(self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }

    fn number(self, name: &str) -> u64 {
        self.text(name).trim().parse().unwrap_or(0)
    }

    /// "max" and no file at all are no limit.
    fn limit(self, name: &str) -> u64 {
        self.text(name).trim().parse().unwrap_or(u64::MAX)
    }

    fn table(self, name: &str) -> HashMap<String, u64> {
        table(&self.text(name))
    }

    fn pressure(self, controller: &str) -> Option<Pressure> {
        pressure(&self.text(&format!("{controller}.pressure")))
    }

    fn memory(self) -> MemoryStatistics {
        MemoryStatistics {
            current: self.number("memory.current"),
            max: self.limit("memory.max"),
            peak: self.number("memory.peak"),
            swap_current: self.number("memory.swap.current"),
            swap_max: self.swap_max(),
            stat: self.table("memory.stat"),
            events: self.table("memory.events"),
            ..Default::default()
        }
    }

    /// Without swap in the kernel there is none to be had.
    fn swap_max(self) -> u64 {
        if self.0.join("memory.swap.max").exists() {
            return self.limit("memory.swap.max");
        }
        0
    }

    fn huge_pages(self) -> Vec<HugePageStatistics> {
        let entries = fs::read_dir(self.0).into_iter().flatten().flatten();
        let mut sizes: Vec<String> = entries
            .filter_map(|entry| page_size(entry.file_name().to_str()?))
            .collect();
        sizes.sort();
        let of_size = |size: String| {
            let events = self.table(&format!("hugetlb.{size}.events"));
            HugePageStatistics {
                current: self.number(&format!("hugetlb.{size}.current")),
                max: self.limit(&format!("hugetlb.{size}.max")),
                failures: events.get("max").copied().unwrap_or(0),
                page_size: size,
                ..Default::default()
            }
        };
        sizes.into_iter().map(of_size).collect()
    }
}

/// "2MB" of `hugetlb.2MB.current`; the reserve's file has a further part.
fn page_size(file: &str) -> Option<String> {
    let size = file.strip_prefix("hugetlb.")?.strip_suffix(".current")?;
    (!size.contains('.')).then(|| size.to_owned())
}

/// Lines "key value".
fn table(text: &str) -> HashMap<String, u64> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// Lines "major:minor key=value ...".
fn io_lines(text: &str) -> Vec<IoStatistics> {
    let line = |line: &str| {
        let (device, rest) = line.split_once(' ')?;
        let (major, minor) = device.split_once(':')?;
        Some(IoStatistics {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            counters: words(rest),
            ..Default::default()
        })
    };
    text.lines().filter_map(line).collect()
}

/// Words "key=value" whose value is a whole number.
fn words(text: &str) -> HashMap<String, u64> {
    let pair = |word: &str| {
        let (key, value) = word.split_once('=')?;
        Some((key.to_owned(), value.parse().ok()?))
    };
    text.split_whitespace().filter_map(pair).collect()
}

/// `None` where the kernel doesn't measure it.
fn pressure(text: &str) -> Option<Pressure> {
    let line = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        Some(pressure_line(line))
    };
    let some = line("some ")?;
    Some(Pressure {
        some: Some(some).into(),
        full: line("full ").into(),
        ..Default::default()
    })
}

fn pressure_line(line: &str) -> PressureLine {
    let value = |key: &str| {
        let mut words = line.split_whitespace();
        words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    };
    let share = |key: &str| value(key).and_then(|text| text.parse().ok());
    PressureLine {
        avg10: share("avg10").unwrap_or(0.0),
        avg60: share("avg60").unwrap_or(0.0),
        avg300: share("avg300").unwrap_or(0.0),
        total: value("total")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_devices_keep_their_counters() {
        let io = io_lines("254:0 rbytes=4096 wbytes=0 rios=1 wios=0\n254:16 cost.usage=7\n");
        assert_eq!((io[0].major, io[0].minor), (254, 0));
        assert_eq!(io[0].counters["rbytes"], 4096);
        assert_eq!(io[1].counters["cost.usage"], 7);
    }

    #[test]
    fn pressure_has_two_lines_or_one_or_none() {
        let both = "some avg10=1.50 avg60=0.00 avg300=0.25 total=99\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=7\n";
        let both = pressure(both).unwrap();
        assert_eq!((both.some.avg10, both.some.total), (1.5, 99));
        assert_eq!(both.full.total, 7);
        let one = pressure("some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n").unwrap();
        assert!(one.full.is_none());
        assert!(pressure("").is_none());
    }

    #[test]
    fn sizes_of_huge_pages_come_from_names() {
        assert_eq!(page_size("hugetlb.2MB.current").as_deref(), Some("2MB"));
        assert_eq!(page_size("hugetlb.2MB.rsvd.current"), None);
        assert_eq!(page_size("memory.current"), None);
    }
}
