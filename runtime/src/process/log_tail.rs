//! The last lines that a guest's console or a helper process has written.
//!
//! Owns a bounded memory of them, for error lines and `console`; a guest can write as much
//! as it likes, so lines and their lengths are limited.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::log::error_line::is_unprintable;
use crate::process::error::Error;
use crate::process::thread;

const MAX_LINES: usize = 64;
const MAX_LINE_LEN: usize = 400;
/// A source that has ended is read to its end well before this, and one that somebody
/// else holds open keeps nobody longer.
const END_LIMIT: Duration = Duration::from_secs(1);

/// How often lines are passed on at most: what writes them may be taken over.
const TOLD_EACH: Duration = Duration::from_secs(10);

/// How a kernel begins to say why it ends; a trace of many lines follows.
const ALARMS: [&str; 3] = ["Kernel panic", "Oops", "BUG:"];

/// The last lines of one source. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogTail {
    kept: Arc<Mutex<Kept>>,
    end: Arc<Condvar>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The last line that says why a kernel ends.
    alarm: Option<String>,
    lines: VecDeque<String>,
    /// The source was read to its end.
    complete: bool,
    listener: Option<Listener>,
}

/// Who is told of lines as they come.
struct Listener {
    /// When it was told of one.
    told: Option<Instant>,
    report: Box<dyn Fn(String) + Send>,
}

impl Listener {
    fn hear(&mut self, line: &str, now: Instant) {
        let lately = |told: Instant| now.duration_since(told) < TOLD_EACH;
        if !self.told.is_some_and(lately) {
            self.told = Some(now);
            (self.report)(line.to_owned());
        }
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}

impl LogTail {
    /// From now on calls `report` for lines as they come: one at once, and then no more
    /// than one each `TOLD_EACH`.
    pub(crate) fn pass_on(&self, report: impl Fn(String) + Send + 'static) {
        self.kept().listener = Some(Listener {
            told: None,
            report: Box::new(report),
        });
    }

    /// Reads `source` to its end in a thread of its own.
    pub(crate) fn follow(source: OwnedFd, name: &str) -> Result<Self, Error> {
        let tail = Self::default();
        let keeper = tail.clone();
        thread::spawn(name, 64, move || keeper.read(File::from(source)))?;
        Ok(tail)
    }

    /// Adds a line that says why a kernel ends, unless one is there already.
    pub(crate) fn add_alarm(&self, find: impl FnOnce() -> Option<String>) {
        let known = self.kept().alarm.is_some();
        if let Some(line) = (!known).then(find).flatten() {
            self.push(line.as_bytes());
        }
    }

    fn read(&self, source: impl Read) {
        let mut line = Vec::new();
        for byte in BufReader::with_capacity(1024, source).bytes() {
            match byte {
                Ok(b'\n') => self.push(&std::mem::take(&mut line)),
                Ok(byte) if line.len() < MAX_LINE_LEN => line.push(byte),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        self.push(&line);
        self.kept().complete = true;
        self.end.notify_all();
    }

    /// Waits until what a process wrote before it ended was read.
    pub(crate) fn await_end(&self) {
        let incomplete = |kept: &mut Kept| !kept.complete;
        drop(
            self.end
                .wait_timeout_while(self.kept(), END_LIMIT, incomplete),
        );
    }

    fn push(&self, line: &[u8]) {
        let text: String = String::from_utf8_lossy(line)
            .chars()
            .filter(|c| !is_unprintable(*c))
            .collect();
        if text.trim().is_empty() {
            return;
        }
        let mut kept = self.kept();
        if ALARMS.iter().any(|alarm| text.contains(alarm)) {
            kept.alarm = Some(text.clone());
        }
        if kept.lines.len() == MAX_LINES {
            kept.lines.pop_front();
        }
        if let Some(listener) = &mut kept.listener {
            listener.hear(&text, Instant::now());
        }
        kept.lines.push_back(text);
    }

    /// All lines that are kept, as [`LogTail::last`] has the last ones.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.newest(MAX_LINES)
    }

    /// The last `count` lines, after the one that says why a kernel ended where
    /// there is one, joined for a one-line message; empty if none.
    pub(crate) fn last(&self, count: usize) -> String {
        self.newest(count).join(" | ")
    }

    fn newest(&self, count: usize) -> Vec<String> {
        let kept = self.kept();
        let skip = kept.lines.len().saturating_sub(count);
        let newest = kept.lines.iter().skip(skip);
        let alarm = kept.alarm.iter();
        let alarm = alarm.filter(|alarm| !newest.clone().any(|line| line == *alarm));
        alarm.chain(newest.clone()).cloned().collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_are_kept_and_long_ones_are_cut() {
        let tail = LogTail::default();
        let mut text = (0..100)
            .map(|n| format!("line {n}\r\n"))
            .collect::<String>();
        text.push_str(&"x".repeat(1000));
        tail.read(text.as_bytes());
        assert_eq!(
            tail.last(3),
            format!("line 98 | line 99 | {}", "x".repeat(MAX_LINE_LEN))
        );
        assert_eq!(tail.kept().lines.len(), MAX_LINES);
    }

    #[test]
    fn the_reason_of_a_panic_is_kept_over_its_trace() {
        let tail = LogTail::default();
        let trace = "? f+0x1/0x2\n".repeat(2 * MAX_LINES);
        tail.read(format!("Kernel panic - not syncing: x\n{trace}end\n").as_bytes());
        assert_eq!(tail.last(1), "Kernel panic - not syncing: x | end");
        let lines = tail.lines();
        assert_eq!(lines.len(), MAX_LINES + 1);
        assert_eq!(
            (lines[0].as_str(), lines[MAX_LINES].as_str()),
            ("Kernel panic - not syncing: x", "end")
        );
    }

    #[test]
    fn a_flood_of_lines_is_passed_on_as_one() {
        let tail = LogTail::default();
        let (tell, told) = std::sync::mpsc::channel();
        tail.pass_on(move |line| tell.send(line).unwrap());
        tail.read("one\ntwo\nthree\n".as_bytes());
        drop(tail);
        assert_eq!(told.iter().collect::<Vec<_>>(), ["one"]);
    }

    #[test]
    fn control_bytes_of_a_guest_do_not_reach_a_terminal() {
        let tail = LogTail::default();
        tail.read(&b"\x1b[31mred\x07\n"[..]);
        assert_eq!(tail.last(1), "[31mred");
    }
}
