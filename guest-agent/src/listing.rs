//! Describing processes as ps does, from /proc.
//!
//! Owns the parsing of `stat`, and the size of a list: the host accepts a reply of limited
//! length. Chooses no processes.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::MetadataExt,
};

use caisson_protocol::server::agent::Process;
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::failure::{Attempt, Failure};

/// Processes in a list; the host accepts no more.
const MAX_PROCESSES: usize = 16 * 1024;
/// Bytes of a command line where all are short.
const MAX_COMMAND_LEN: usize = 4096;
/// Bytes of all command lines; the host accepts a little more, with names.
const MAX_COMMANDS_LEN: usize = 700 * 1024;

/// Describes each process that still exists, up to the size that the host accepts: where
/// command lines are too long in all, long ones are cut, and short ones are whole.
///
/// # Errors
/// /proc can't be read at all.
pub(crate) fn describe(pids: &[Pid]) -> Result<Vec<Process>, Failure> {
    let ticks = sysconf(SysconfVar::CLK_TCK).step("ask for clock ticks")?;
    let units = Units {
        page_bytes: u64::try_from(rustix::param::page_size()).unwrap_or(4096),
        ticks_per_second: ticks
            .and_then(|ticks| u64::try_from(ticks).ok())
            .unwrap_or(100)
            .max(1),
        boot_unix_s: boot_time()?,
    };
    let mut processes: Vec<_> = pids
        .iter()
        .take(MAX_PROCESSES)
        .filter_map(|&pid| describe_one(pid, units))
        .collect();
    let lengths = processes.iter().map(|process| process.command.len());
    let most = share_of_each(lengths.collect(), MAX_COMMANDS_LEN);
    for process in &mut processes {
        cut(&mut process.command, most);
    }
    Ok(processes)
}

/// The greatest length to which each is cut so that all together are no longer than
/// `all`.
fn share_of_each(mut lengths: Vec<usize>, mut all: usize) -> usize {
    lengths.sort_unstable();
    let count = lengths.len();
    for (before, length) in lengths.into_iter().enumerate() {
        let share = all / (count - before);
        if length > share {
            return share;
        }
        all -= length;
    }
    MAX_COMMAND_LEN
}

/// To so many bytes at most, between two characters.
fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
    }
}

/// Units of the numbers in `stat`, and the zero of its times.
#[derive(Debug, Clone, Copy)]
struct Units {
    page_bytes: u64,
    ticks_per_second: u64,
    boot_unix_s: u64,
}

fn boot_time() -> Result<u64, Failure> {
    let stat = fs::read_to_string("/proc/stat").at("read", "/proc/stat")?;
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "));
    Ok(seconds
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(0))
}

/// `None` when it ended meanwhile.
fn describe_one(pid: Pid, units: Units) -> Option<Process> {
    let directory = format!("/proc/{pid}");
    let uid = fs::metadata(&directory).ok()?.uid();
    let stat = fs::read_to_string(format!("{directory}/stat")).ok()?;
    let mut command = Vec::new();
    let file = File::open(format!("{directory}/cmdline")).ok()?;
    file.take(MAX_COMMAND_LEN as u64)
        .read_to_end(&mut command)
        .ok()?;
    let mut process = parse_stat(&stat, units)?;
    process.uid = uid;
    let mut arguments = join_arguments(&command);
    // What is not UTF-8 has become longer.
    cut(&mut arguments, MAX_COMMAND_LEN);
    if !arguments.is_empty() {
        process.command = arguments;
    }
    Some(process)
}

/// Fields as in proc_pid_stat(5). The name may hold anything, so the rest is
/// counted from its last parenthesis.
fn parse_stat(stat: &str, units: Units) -> Option<Process> {
    let (head, tail) = stat.rsplit_once(") ")?;
    let (pid, name) = head.split_once(" (")?;
    let fields: Vec<&str> = tail.split(' ').collect();
    // The tail begins with field 3.
    let text = |number: usize| fields.get(number - 3).copied();
    let field = |number: usize| text(number)?.parse::<u64>().ok();
    let ticks = units.ticks_per_second;
    let since_boot_ns = u128::from(field(22)?) * 1_000_000_000 / u128::from(ticks);
    let boot_ns = u128::from(units.boot_unix_s) * 1_000_000_000;
    Some(Process {
        pid: pid.parse().ok()?,
        parent_pid: u32::try_from(field(4)?).ok()?,
        cpu_ms: (field(14)? + field(15)?) * 1000 / ticks,
        started_unix_ns: u64::try_from(boot_ns + since_boot_ns).unwrap_or(u64::MAX),
        tty: terminal_name(field(7)?),
        command: format!("[{name}]"),
        name: name.to_owned(),
        state: text(3)?.to_owned(),
        virtual_kib: field(23)? / 1024,
        resident_kib: field(24)? * units.page_bytes / 1024,
        ..Default::default()
    })
}

/// Pseudo terminals have the majors 136 to 143, of 256 each.
fn terminal_name(device: u64) -> String {
    let major = (device >> 8) & 0xfff;
    let minor = (device & 0xff) | ((device >> 12) & 0xfff00);
    match major {
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        _ => "?".to_owned(),
    }
}

fn join_arguments(command: &[u8]) -> String {
    let text = String::from_utf8_lossy(command);
    text.trim_end_matches('\0').replace('\0', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_blanks_does_not_shift_the_fields() {
        let stat =
            "42 (a) b (c) S 7 42 42 34817 42 4194304 1 0 0 0 150 50 0 0 20 0 1 0 300 8192 3 0";
        let units = Units {
            page_bytes: 4096,
            ticks_per_second: 100,
            boot_unix_s: 1000,
        };
        let process = parse_stat(stat, units).unwrap();
        assert_eq!((process.pid, process.parent_pid), (42, 7));
        assert_eq!(process.cpu_ms, 2000);
        assert_eq!(process.started_unix_ns, 1_003_000_000_000);
        assert_eq!(process.tty, "pts/1");
        assert_eq!(process.command, "[a) b (c]");
        assert_eq!(process.state, "S");
        assert_eq!((process.virtual_kib, process.resident_kib), (8, 12));
    }

    #[test]
    fn long_command_lines_are_cut_and_short_ones_whole() {
        assert_eq!(share_of_each(vec![10, 4096, 20], MAX_COMMANDS_LEN), 4096);
        // 10,000 of them, one of which is long.
        let mut lengths = vec![60; 9_999];
        lengths.push(100_000);
        let most = share_of_each(lengths, MAX_COMMANDS_LEN);
        assert!(most > 60 && 9_999 * 60 + most <= MAX_COMMANDS_LEN, "{most}");
        // 5 MiB of them.
        assert_eq!(share_of_each(vec![4096; 1280], MAX_COMMANDS_LEN), 560);
        assert_eq!(share_of_each(Vec::new(), 1), MAX_COMMAND_LEN);
        let mut text = "äöü".to_owned();
        cut(&mut text, 3);
        assert_eq!(text, "ä");
    }

    #[test]
    fn arguments_are_joined_by_blanks() {
        assert_eq!(join_arguments(b"sh\0-c\0true\0"), "sh -c true");
        assert_eq!(join_arguments(b""), "");
    }
}
