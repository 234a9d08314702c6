//! From `linux.resources` to the files of the host's cgroup.
//!
//! The host's limits are wider than the container's by what its machine needs:
//! they hold if the guest's own, exact limits should ever not. Only what the
//! guest can't do, CPU sets and block I/O, is exact here. Writes nothing.

use caisson_protocol::cgroup::{cpu_weight, io_max, io_weight};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxResources};

use crate::cgroup::hierarchy::Version;
use crate::host::guest_names;

/// Threads of the owner, the machine, the file server and those who stand for
/// execs, beside the container's own processes, which the host doesn't see.
const EXTRA_PIDS: i64 = 1024;
/// Threads of the file server and of an emulator grow with the processors.
const PIDS_OF_VCPU: i64 = 64;
const DEFAULT_PERIOD_US: u64 = 100_000;
/// Of version 1, as config.json has them.
const DEFAULT_SHARES: u64 = 1024;
const IDLE_SHARES: u64 = 2;

/// What a machine and its helpers may use of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// The guest's memory, in MiB.
    pub mem_mib: u32,
    /// The guest's processors.
    pub vcpus: u8,
    /// QEMU emulates: translated code is kept in memory.
    pub emulated: bool,
}

impl Allowance {
    /// Owner, monitor and file server with their threads and sockets; page tables and
    /// what is held of files grow with the guest.
    fn bytes(self) -> u64 {
        const HELPERS_MIB: u64 = 64;
        const TRANSLATIONS_MIB: u64 = 1280;
        let guest = u64::from(self.mem_mib);
        let emulator = if self.emulated { TRANSLATIONS_MIB } else { 0 };
        let names = guest_names::cost_mib(self.mem_mib);
        (guest + guest / 64 + names + HELPERS_MIB + emulator) << 20
    }
}

/// Which files a cgroup has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Files {
    /// Version of the interface.
    pub version: Version,
    /// Weights of block I/O are those of BFQ: a kernel without io.cost has no others.
    pub has_bfq: bool,
}

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Controller that has the file.
    pub(super) controller: &'static str,
    /// Name inside the cgroup's directory.
    pub(super) file: &'static str,
    /// What to write.
    pub(super) value: String,
    /// Whether the guest applies the exact value.
    pub(super) need: Need,
}

impl Setting {
    /// What brings its file back to `present`, of which it changes one line.
    pub(super) fn undone(&self, version: Version, present: &str) -> Self {
        let mut words = self.value.split(' ');
        let (subject, change) = (words.next().unwrap_or_default(), words.next());
        let is_line_of = |line: &&str| line.split(' ').next() == Some(subject);
        let line = present.lines().find(is_line_of);
        let value = match (change, change.and_then(|change| change.split_once('='))) {
            // One value is all there is; a set of nothing is an empty line.
            (None, _) => present.lines().next().unwrap_or_default().to_owned() + "\n",
            (Some(_), Some((key, _))) => {
                let key = format!("{key}=");
                let mut rates = line.into_iter().flat_map(|line| line.split(' '));
                let rate = rates.find(|word| word.starts_with(&key));
                format!("{subject} {}", rate.unwrap_or(&format!("{key}max")))
            }
            (Some(_), None) => match (line, version) {
                (Some(line), _) => line.to_owned(),
                (None, Version::V1) if !self.file.contains(".bfq.") => format!("{subject} 0"),
                (None, _) => format!("{subject} default"),
            },
        };
        Self {
            value,
            ..self.clone()
        }
    }
}

/// What it means if a setting can't be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Only a second line is missing: the guest's limit holds.
    Wider,
    /// Nobody else applies it.
    Only,
}

/// Every setting but the CPU quota.
#[must_use]
pub fn settings(resources: &LinuxResources, allowance: Allowance, files: Files) -> Vec<Setting> {
    let mut list = List {
        version: files.version,
        settings: Vec::new(),
    };
    list.add_memory(allowance);
    if let Some(cpu) = resources.cpu() {
        list.add_cpu(cpu);
    }
    list.wider("pids", ["pids.max"; 2], max_pids(resources, allowance));
    if let Some(io) = resources.block_io() {
        list.add_weights(io, files.has_bfq);
        list.add_throttles(io);
    }
    list.settings
}

/// The CPU quota, apart: a machine boots at full speed, and is held to it from
/// then on. It is wider than the container's by a quarter, and by a tenth of a
/// CPU at least, which is for the devices.
#[must_use]
pub fn quota(resources: &LinuxResources, version: Version) -> Vec<Setting> {
    let mut list = List {
        version,
        settings: Vec::new(),
    };
    if let Some(cpu) = resources.cpu() {
        list.add_quota(cpu);
    }
    list.settings
}

/// Tasks on the host: those of the machine, of its owner and of whatever stands for execs.
/// The container's own are in the guest; so many more that they are never in the way.
/// Without a limit the host has one all the same.
fn max_pids(resources: &LinuxResources, allowance: Allowance) -> String {
    match resources.pids().as_ref().map_or(0, |pids| pids.limit()) {
        0 => (EXTRA_PIDS + PIDS_OF_VCPU * i64::from(allowance.vcpus)).to_string(),
        limit if limit < 0 => "max".to_owned(),
        limit => limit.saturating_add(EXTRA_PIDS).to_string(),
    }
}

struct List {
    version: Version,
    settings: Vec<Setting>,
}

impl List {
    fn add(
        &mut self,
        controller: &'static str,
        [one, two]: [&'static str; 2],
        value: String,
        need: Need,
    ) {
        let file = match self.version {
            Version::V1 => one,
            Version::V2 => two,
        };
        self.settings.push(Setting {
            controller,
            file,
            value,
            need,
        });
    }

    fn wider(&mut self, controller: &'static str, files: [&'static str; 2], value: String) {
        self.add(controller, files, value, Need::Wider);
    }

    fn only(&mut self, controller: &'static str, files: [&'static str; 2], value: String) {
        self.add(controller, files, value, Need::Only);
    }

    fn unlimited(&self) -> String {
        match self.version {
            Version::V1 => "-1".into(),
            Version::V2 => "max".into(),
        }
    }

    /// Whatever config.json says: the container's own limit is the guest's affair, and
    /// the machine and its helpers can't need more.
    fn add_memory(&mut self, allowance: Allowance) {
        let files = ["memory.limit_in_bytes", "memory.max"];
        self.wider("memory", files, allowance.bytes().to_string());
    }

    fn add_cpu(&mut self, cpu: &LinuxCpu) {
        // The machine as a whole must answer, however busy the host: it gets the
        // smallest share there is, and the guest keeps its container idle.
        let shares = match (cpu.idle(), cpu.shares().unwrap_or(0)) {
            (Some(idle), _) if idle != 0 => IDLE_SHARES,
            (Some(_), 0) => DEFAULT_SHARES,
            (_, shares) => shares,
        };
        if shares != 0 {
            let value = match self.version {
                Version::V1 => shares,
                Version::V2 => cpu_weight(shares),
            };
            self.wider("cpu", ["cpu.shares", "cpu.weight"], value.to_string());
        }
        for (files, list) in [
            (["cpuset.cpus"; 2], cpu.cpus()),
            (["cpuset.mems"; 2], cpu.mems()),
        ] {
            if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
                self.only("cpuset", files, list.to_owned());
            }
        }
    }

    fn add_quota(&mut self, cpu: &LinuxCpu) {
        let (quota, period) = (cpu.quota().unwrap_or(0), cpu.period().unwrap_or(0));
        if quota == 0 && period == 0 {
            return;
        }
        let period = if period == 0 {
            DEFAULT_PERIOD_US
        } else {
            period
        };
        let quota = u64::try_from(quota).ok().filter(|quota| *quota > 0);
        let wider = quota.map(|quota| quota.saturating_add((quota / 4).max(period / 10)));
        match self.version {
            Version::V1 => {
                // Without a quota any period is legal, whatever stood there before.
                let none = self.unlimited();
                self.wider("cpu", ["cpu.cfs_quota_us"; 2], none);
                self.wider("cpu", ["cpu.cfs_period_us"; 2], period.to_string());
                if let Some(quota) = wider {
                    self.wider("cpu", ["cpu.cfs_quota_us"; 2], quota.to_string());
                }
            }
            Version::V2 => {
                let quota = wider.map_or_else(|| self.unlimited(), |quota| quota.to_string());
                self.wider("cpu", ["cpu.max"; 2], format!("{quota} {period}"));
            }
        }
        if let Some(burst) = cpu.burst() {
            let files = ["cpu.cfs_burst_us", "cpu.max.burst"];
            self.wider("cpu", files, burst.to_string());
        }
    }

    fn add_io(&mut self, files: [&'static str; 2], value: String) {
        let controller = match self.version {
            Version::V1 => "blkio",
            Version::V2 => "io",
        };
        self.only(controller, files, value);
    }

    /// What the container reads and writes goes through the file server, whose
    /// devices are the host's.
    fn add_weights(&mut self, io: &LinuxBlockIo, bfq: bool) {
        const BFQ: [[&str; 2]; 2] = [
            ["blkio.bfq.weight", "io.bfq.weight"],
            ["blkio.bfq.weight_device", "io.bfq.weight"],
        ];
        const OTHERS: [[&str; 2]; 2] = [
            ["blkio.weight", "io.weight"],
            ["blkio.weight_device", "io.weight"],
        ];
        let [whole, one_device] = if bfq { BFQ } else { OTHERS };
        // BFQ has the range of version 1.
        let convert = match (self.version, bfq) {
            (Version::V2, false) => io_weight,
            _ => std::convert::identity,
        };
        if let Some(weight) = io.weight().filter(|weight| *weight != 0) {
            let value = match self.version {
                Version::V1 => weight.to_string(),
                Version::V2 => format!("default {}", convert(weight)),
            };
            self.add_io(whole, value);
        }
        for device in io.weight_device().iter().flatten() {
            if let Some(weight) = device.weight().filter(|weight| *weight != 0) {
                let (major, minor) = (device.major(), device.minor());
                self.add_io(one_device, format!("{major}:{minor} {}", convert(weight)));
            }
        }
    }

    fn add_throttles(&mut self, io: &LinuxBlockIo) {
        let throttles = [
            (
                io.throttle_read_bps_device(),
                "blkio.throttle.read_bps_device",
                "rbps",
            ),
            (
                io.throttle_write_bps_device(),
                "blkio.throttle.write_bps_device",
                "wbps",
            ),
            (
                io.throttle_read_iops_device(),
                "blkio.throttle.read_iops_device",
                "riops",
            ),
            (
                io.throttle_write_iops_device(),
                "blkio.throttle.write_iops_device",
                "wiops",
            ),
        ];
        for (devices, file, key) in throttles {
            for device in devices.iter().flatten() {
                let (major, minor, rate) = (device.major(), device.minor(), device.rate());
                let value = match self.version {
                    Version::V1 => format!("{major}:{minor} {rate}"),
                    Version::V2 => io_max(major, minor, key, rate),
                };
                self.add_io([file, "io.max"], value);
            }
        }
    }
}

#[cfg(test)]
#[path = "settings_test.rs"]
mod tests;
