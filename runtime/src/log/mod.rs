//! The log a caller asked for with `--log`, in the formats runc has.
//!
//! Owns the format and the file. Callers such as containerd's runc shim read
//! the last JSON line of level `error`, so nothing else may be written there.

pub mod error_line;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use caisson_protocol::rate::RateLimit;

/// How a log line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `time="…" level=error msg="…"`.
    #[default]
    Text,
    /// One JSON object with `level`, `msg` and `time`.
    Json,
}

/// How grave a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Told only with `--debug`.
    Debug,
    /// Something was left out that the caller may have wanted.
    Warning,
    /// The command failed.
    Error,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Writes log lines to the caller's file, or to standard error.
#[derive(Debug, Default)]
pub struct Log {
    file: Option<File>,
    /// Standard error, for a process that no longer has it as descriptor 2.
    kept: Mutex<Option<File>>,
    format: Format,
    debug: bool,
}

impl Log {
    /// The log that a request of another process names; standard error where it can't be
    /// opened: that fails no request.
    #[must_use]
    pub fn of_request(path: Option<&Path>, json: bool, debug: bool) -> Self {
        let format = if json { Format::Json } else { Format::Text };
        Self::open(path, format, debug).unwrap_or_default()
    }

    /// Opens the log; without a path, lines go to standard error.
    ///
    /// # Errors
    /// When the file can't be opened for appending.
    pub fn open(path: Option<&Path>, format: Format, debug: bool) -> io::Result<Self> {
        let file = path
            .map(|path| {
                OpenOptions::new()
                    .append(true)
                    .create(true)
                    .mode(0o644)
                    .open(path)
            })
            .transpose()?;
        Ok(Self {
            file,
            kept: Mutex::default(),
            format,
            debug,
        })
    }

    /// Whether lines go to a file of their own.
    #[must_use]
    pub const fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Writes one line of level debug, where that was asked for.
    pub fn debug(&self, message: &str) {
        if self.debug {
            self.write(Level::Debug, message);
        }
    }

    /// Writes one line unless it would end up among the container's own output.
    pub fn write_if_file(&self, level: Level, message: &str) {
        if self.has_file() {
            self.write(level, message);
        }
    }

    /// Writes one line. A log that can't be written must not fail the command.
    pub fn write(&self, level: Level, message: &str) {
        let line = format_line(self.format, level, message, SystemTime::now());
        match &self.file {
            Some(file) => (&mut &*file).write_all(line.as_bytes()),
            None => match &*self.kept() {
                Some(kept) => (&mut &*kept).write_all(line.as_bytes()),
                None => io::stderr().write_all(line.as_bytes()),
            },
        }
        .ok();
    }

    /// Keeps standard error for lines that no file is there for: the process closes
    /// descriptor 2.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub fn keep_standard_error(&self) -> io::Result<()> {
        *self.kept() = Some(io::stderr().as_fd().try_clone_to_owned()?.into());
        Ok(())
    }

    /// Closes it: whoever reads it sees its end.
    pub fn release_standard_error(&self) {
        self.kept().take();
    }

    fn kept(&self) -> MutexGuard<'_, Option<File>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A kind of line that a guest can cause as often as it likes: the first is written at
/// once, then at most one in a second, with the number of those that were left out.
#[derive(Debug, Default)]
pub struct Repeated {
    limit: RateLimit,
}

impl Repeated {
    /// Of many different lines: so many at once are written, too.
    #[must_use]
    pub fn with_burst(burst: u32) -> Self {
        Self {
            limit: RateLimit::with_burst(burst),
        }
    }

    /// Writes one of level warning, or counts it.
    pub fn write(&mut self, log: &Log, message: &str) {
        if let Some(more) = self.limit.pass(Instant::now()) {
            log.write_if_file(Level::Warning, &with_count(message, more));
        }
    }

    /// Writes the last one with its count, if there were more than was written.
    pub fn write_rest(&mut self, log: &Log, message: &str) {
        let more = self.limit.take_dropped();
        if more > 0 {
            // It is one of them.
            log.write_if_file(Level::Warning, &with_count(message, more - 1));
        }
    }
}

fn with_count(message: &str, more: u64) -> String {
    match more {
        0 => message.to_owned(),
        1 => format!("{message} (1 more time)"),
        more => format!("{message} ({more} more times)"),
    }
}

fn format_line(format: Format, level: Level, message: &str, at: SystemTime) -> String {
    let time = humantime::format_rfc3339_seconds(at);
    match format {
        Format::Text => format!("time=\"{time}\" level={} msg={message:?}\n", level.name()),
        Format::Json => {
            let line = serde_json::json!({
                "level": level.name(), "msg": message, "time": time.to_string(),
            });
            format!("{line}\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_line_is_one_object_with_the_three_keys_callers_read() {
        let line = format_line(Format::Json, Level::Error, "a\nb", SystemTime::UNIX_EPOCH);
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "error");
        assert_eq!(value["msg"], "a\nb");
        assert_eq!(value["time"], "1970-01-01T00:00:00Z");
    }

    #[test]
    fn a_flood_of_lines_becomes_one_and_its_count() {
        let path = std::env::temp_dir().join(format!("caisson-log-{}", std::process::id()));
        let log = Log::open(Some(&path), Format::Text, false).unwrap();
        let mut lines = Repeated::default();
        let begun = Instant::now();
        while begun.elapsed() < caisson_protocol::rate::PERIOD / 2 {
            lines.write(&log, "again");
        }
        lines.write_rest(&log, "again");
        lines.write_rest(&log, "again");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].ends_with("msg=\"again\""), "{text}");
        assert!(lines[1].ends_with(" more times)\""), "{text}");
    }

    #[test]
    fn a_text_line_quotes_its_message() {
        let line = format_line(
            Format::Text,
            Level::Warning,
            "x \"y\"",
            SystemTime::UNIX_EPOCH,
        );
        assert_eq!(
            line,
            "time=\"1970-01-01T00:00:00Z\" level=warning msg=\"x \\\"y\\\"\"\n"
        );
    }
}
