//! `Output`: what a command has said, and what it ought to have said.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// What the line that tells of an emulated start has in it.
pub const EMULATION_WARNING: &str = "level=warning msg=\"machine tcg, ";

/// `text` without the lines that emulated starts add to it.
#[must_use]
pub fn without_emulation_warning(text: &str) -> String {
    text.split_inclusive('\n')
        .filter(|line| !line.contains(EMULATION_WARNING))
        .collect()
}

/// Exit code and streams of a command that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit code, or 128 plus the signal that ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// What was run, for messages.
    pub command: String,
}

impl Output {
    /// The code a shell would show.
    #[must_use]
    pub fn code_of(status: ExitStatus) -> i32 {
        status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }

    /// Standard output of a success.
    ///
    /// # Panics
    /// When it failed, or wrote to standard error.
    #[track_caller]
    pub fn ok(self) -> String {
        self.exits(0);
        assert_eq!(self.stderr, "", "{} complained", self.command);
        self.stdout
    }

    /// # Panics
    /// When the exit code is another.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        assert_eq!(
            self.code, code,
            "{}: {}{}",
            self.command, self.stdout, self.stderr
        );
        self
    }

    /// # Panics
    /// When the code is another, or the only line on standard error is not
    /// `caisson: ` and this text.
    #[track_caller]
    pub fn fails(&self, code: i32, text: &str) {
        assert_eq!(
            self.stderr,
            format!("caisson: {text}\n"),
            "{}",
            self.command
        );
        self.exits(code);
    }

    /// The one error line of a failure whose whole text is not known beforehand.
    ///
    /// # Panics
    /// When the code is another, or there is not exactly one error line.
    #[track_caller]
    pub fn error_line(&self, code: i32) -> &str {
        self.exits(code);
        let line = self.stderr.strip_suffix('\n').unwrap_or(&self.stderr);
        let line = line
            .strip_prefix("caisson: ")
            .unwrap_or_else(|| panic!("{}: {line:?}", self.command));
        assert!(
            !line.contains('\n'),
            "{}: more than one line: {line}",
            self.command
        );
        line
    }
}
