//! The columns of `ps`, and which of them its options ask for.
//!
//! Owns names, widths and the form of values, which are those of procps. Knows
//! neither containers nor where processes come from.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::log::error_line::is_unprintable;
use crate::owner::ProcessEntry;

/// One column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    /// What it is called in `-o`.
    name: &'static str,
    /// What stands above it.
    heading: &'static str,
    /// Numbers are aligned to the right.
    right: bool,
    /// It is this wide, or as its widest value.
    least_width: usize,
    value: Value,
}

const fn left(name: &'static str, heading: &'static str, value: Value) -> Column {
    Column {
        name,
        heading,
        right: false,
        least_width: 0,
        value,
    }
}

const fn right(name: &'static str, heading: &'static str, value: Value) -> Column {
    Column {
        name,
        heading,
        right: true,
        least_width: 0,
        value,
    }
}

/// As wide as the highest pid there may be (PID_MAX_LIMIT of a 64-bit kernel), as
/// procps has it: scripts look for blanks before the heading.
const fn pid(name: &'static str, heading: &'static str, value: Value) -> Column {
    Column {
        least_width: "4194304".len(),
        ..right(name, heading, value)
    }
}

type Value = fn(&ProcessEntry) -> String;

/// Every column there is.
const COLUMNS: &[Column] = &[
    left("uid", "UID", user),
    left("user", "USER", user),
    pid("pid", "PID", |process| process.pid.to_string()),
    pid("ppid", "PPID", |process| process.parent_pid.to_string()),
    right("c", "C", |process| (cpu_tenths(process) / 10).to_string()),
    right("pcpu", "%CPU", |process| {
        let tenths = cpu_tenths(process);
        format!("{}.{}", tenths / 10, tenths % 10)
    }),
    right("vsz", "VSZ", |process| process.virtual_kib.to_string()),
    right("rss", "RSS", |process| process.resident_kib.to_string()),
    left("stat", "STAT", |process| process.state.clone()),
    left("stime", "STIME", started),
    left("start", "START", started),
    left("tty", "TTY", |process| process.tty.clone()),
    right("etimes", "ELAPSED", |process| {
        age(process).as_secs().to_string()
    }),
    right("time", "TIME", |process| clock(process.cpu_ms / 1000)),
    left("comm", "COMMAND", |process| process.name.clone()),
    left("ucmd", "CMD", |process| process.name.clone()),
    left("args", "COMMAND", |process| process.command.clone()),
    left("cmd", "CMD", |process| process.command.clone()),
];

/// Other names of columns.
const ALIASES: &[(&str, &str)] = &[
    ("%cpu", "pcpu"),
    ("command", "args"),
    ("rssize", "rss"),
    ("s", "stat"),
    ("state", "stat"),
    ("start_time", "stime"),
    ("tname", "tty"),
    ("tt", "tty"),
    ("vsize", "vsz"),
];

const FULL: &[&str] = &["uid", "pid", "ppid", "c", "stime", "tty", "time", "cmd"];
const SHORT: &[&str] = &["pid", "tty", "time", "ucmd"];
const BSD: &[&str] = &["pid", "tty", "stat", "time", "args"];
const USER: &[&str] = &[
    "user", "pid", "pcpu", "vsz", "rss", "tty", "stat", "start", "time", "args",
];

/// The columns that `options`, written as for ps, ask for. Which processes they ask
/// for doesn't matter: it is always those of the container.
///
/// # Errors
/// The first option or column that isn't known here.
pub(super) fn wanted(options: &[String]) -> Result<Vec<Column>, String> {
    let mut all_letters = String::new();
    let mut chosen = Vec::new();
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let word = option.trim_start_matches('-');
        let (letters, list) = match word.split_once('o') {
            None => (word, None),
            Some((letters, "")) => (letters, options.next().map(String::as_str)),
            Some((letters, list)) => (letters, Some(list)),
        };
        if letters.is_empty() && list.is_none() || letters.contains(|one| !"efAaxwu".contains(one))
        {
            return Err(format!(
                "ps: option {option:?} is not known here; use -ef, aux or -o with a list of columns"
            ));
        }
        all_letters.push_str(letters);
        for name in list.into_iter().flat_map(|list| list.split([',', ' '])) {
            chosen.push(column(name).ok_or_else(|| no_column(name))?);
        }
    }
    if chosen.is_empty() {
        chosen.extend(usual(&all_letters).iter().filter_map(|name| column(name)));
    }
    Ok(chosen)
}

/// The columns of a form of ps; without any letters it is that of `-ef`, as runc's.
fn usual(letters: &str) -> &'static [&'static str] {
    let has = |letter| letters.contains(letter);
    match letters {
        "" => FULL,
        _ if has('u') => USER,
        _ if has('f') => FULL,
        _ if has('x') => BSD,
        _ => SHORT,
    }
}

/// The one user who has the same name everywhere, or else the number: names are the
/// container's own.
fn user(process: &ProcessEntry) -> String {
    match process.uid {
        0 => "root".into(),
        uid => uid.to_string(),
    }
}

fn column(name: &str) -> Option<Column> {
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
    let name = alias.map_or(name, |(_, name)| name);
    COLUMNS.iter().find(|column| column.name == name).copied()
}

fn no_column(name: &str) -> String {
    let known: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
    format!("ps: no column {name:?}; there are {}", known.join(", "))
}

/// Characters of a value that are shown: a program can have a command line of megabytes.
const MAX_VALUE_LEN: usize = 4096;

/// The table, with columns as wide as their values; the last column is never padded.
pub(super) fn table(processes: &[ProcessEntry], columns: &[Column]) -> String {
    let heading = columns.iter().map(|column| column.heading.to_owned());
    let mut rows: Vec<Vec<String>> = vec![heading.collect()];
    let values = |process| {
        columns
            .iter()
            .map(|column| printable(&(column.value)(process)))
            .collect()
    };
    rows.extend(processes.iter().map(values));
    let width = |(at, column): (usize, &Column)| {
        let values = rows.iter().map(|row| row[at].chars().count());
        values.fold(column.least_width, usize::max)
    };
    let widths: Vec<usize> = columns.iter().enumerate().map(width).collect();
    let last = columns.len().saturating_sub(1);
    let cell = |((at, column), (value, width)): ((usize, &Column), (&String, &usize))| match (
        column.right,
        at == last,
    ) {
        (true, _) => format!("{value:>width$}"),
        (false, true) => value.clone(),
        (false, false) => format!("{value:width$}"),
    };
    let line = |row: &Vec<String>| {
        let cells = columns.iter().enumerate().zip(row.iter().zip(&widths));
        let cells: Vec<String> = cells.map(cell).collect();
        format!("{}\n", cells.join(" ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// As procps has it: what a program calls itself must not reach the terminal's controls.
fn printable(value: &str) -> String {
    let shown = value.chars().take(MAX_VALUE_LEN);
    let plain = |letter: char| if is_unprintable(letter) { '?' } else { letter };
    shown.map(plain).collect()
}

/// Since its start; a clock that was set back makes it 0.
fn age(process: &ProcessEntry) -> Duration {
    let started = UNIX_EPOCH + Duration::from_nanos(process.started_unix_ns);
    SystemTime::now()
        .duration_since(started)
        .unwrap_or_default()
}

/// Tenths of a per cent of one processor, over its life.
fn cpu_tenths(process: &ProcessEntry) -> u64 {
    let age_ms = u64::try_from(age(process).as_millis()).unwrap_or(u64::MAX);
    process.cpu_ms.saturating_mul(1000) / age_ms.max(1)
}

/// Time of the day (UTC), or the day for what is older than one.
fn started(process: &ProcessEntry) -> String {
    let at = UNIX_EPOCH + Duration::from_nanos(process.started_unix_ns);
    let text = humantime::format_rfc3339_seconds(at).to_string();
    let day_s = 24 * 3600;
    let part = if age(process).as_secs() < day_s {
        text.get(11..16)
    } else {
        text.get(..10)
    };
    part.unwrap_or_default().to_owned()
}

fn clock(seconds: u64) -> String {
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(options: &[&str]) -> Result<String, String> {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let process = ProcessEntry {
            pid: 42,
            command: "sleep 1000".into(),
            name: "sleep".into(),
            resident_kib: 500,
            ..ProcessEntry::default()
        };
        Ok(table(&[process], &wanted(&options)?))
    }

    #[test]
    fn a_list_chooses_columns_and_their_order() {
        let expected = "    PID CMD        RSS\n     42 sleep 1000 500\n";
        for options in [
            &["-o", "pid,cmd,rss"][..],
            &["-eo", "pid,cmd", "-orss"],
            &["aux", "-o", "pid cmd rss"],
        ] {
            assert_eq!(shown(options).as_deref(), Ok(expected), "{options:?}");
        }
    }

    #[test]
    fn a_program_does_not_reach_the_terminals_controls() {
        let process = ProcessEntry {
            command: "a\x1b]0;b\x07 \u{9b}2J\nc".into(),
            ..ProcessEntry::default()
        };
        let table = table(&[process], &wanted(&["-o".into(), "cmd".into()]).unwrap());
        assert_eq!(table, "CMD\na?]0;b? ?2J?c\n");
    }

    #[test]
    fn a_command_line_of_any_length_is_shown_in_any_column() {
        let processes = [70_000, 3].map(|length| ProcessEntry {
            command: "x".repeat(length),
            ..ProcessEntry::default()
        });
        let shown = |columns: &str| {
            let options = ["-o".to_owned(), columns.to_owned()];
            table(&processes, &wanted(&options).unwrap())
        };
        let long = "x".repeat(MAX_VALUE_LEN);
        assert_eq!(shown("cmd"), format!("CMD\n{long}\nxxx\n"));
        let width = MAX_VALUE_LEN;
        let expected = format!("{:width$} UID\n{long} root\n{:width$} root\n", "CMD", "xxx");
        assert_eq!(shown("cmd,uid"), expected);
    }

    #[test]
    fn usual_forms_are_those_of_ps() {
        let heading = |options: &[&str]| {
            let table = shown(options).unwrap();
            let heading = table.lines().next().unwrap().split_whitespace();
            heading.map(str::to_owned).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(heading(&[]), "UID PID PPID C STIME TTY TIME CMD");
        assert_eq!(heading(&["-e", "-f"]), heading(&[]));
        assert_eq!(heading(&["-e"]), "PID TTY TIME CMD");
        assert_eq!(heading(&["-e", "-x"]), "PID TTY STAT TIME COMMAND");
        assert!(shown(&["-o", "user"]).unwrap().contains("root"));
        assert!(heading(&["aux"]).starts_with("USER PID %CPU VSZ RSS"));
    }

    #[test]
    fn what_is_not_known_is_named() {
        for (options, word) in [
            (&["-Z"][..], "-Z"),
            (&["-o"], "-o"),
            (&["-o", "pid,nonsense"], "nonsense"),
        ] {
            assert!(shown(options).unwrap_err().contains(word), "{options:?}");
        }
    }
}
