//! The last lines that a guest's console or a helper process has written.
//!
//! Owns a bounded memory of them, for error lines; a guest can write as much
//! as it likes, so lines and their lengths are limited.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::{Error, step};

const MAX_LINES: usize = 16;
const MAX_LINE_LEN: usize = 200;

/// The last lines of one source. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail {
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl Tail {
    /// Reads `source` to its end in a thread of its own.
    pub(crate) fn follow(source: OwnedFd, name: &str) -> Result<Self, Error> {
        let tail = Self::default();
        let keeper = tail.clone();
        std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(64 * 1024)
            .spawn(move || keeper.read(File::from(source)))
            .map_err(step("start a thread"))?;
        Ok(tail)
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
    }

    fn push(&self, line: &[u8]) {
        let text: String = String::from_utf8_lossy(line)
            .chars()
            .filter(|c| !c.is_control())
            .collect();
        if text.trim().is_empty() {
            return;
        }
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == MAX_LINES {
            lines.pop_front();
        }
        lines.push_back(text);
    }

    /// The last `count` lines, joined for a one-line message; empty if none.
    pub(crate) fn last(&self, count: usize) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let skip = lines.len().saturating_sub(count);
        lines
            .iter()
            .skip(skip)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" | ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_are_kept_and_long_ones_are_cut() {
        let tail = Tail::default();
        let mut text = (0..40).map(|n| format!("line {n}\r\n")).collect::<String>();
        text.push_str(&"x".repeat(1000));
        tail.read(text.as_bytes());
        assert_eq!(
            tail.last(3),
            format!("line 38 | line 39 | {}", "x".repeat(MAX_LINE_LEN))
        );
        assert_eq!(tail.lines.lock().unwrap().len(), MAX_LINES);
    }

    #[test]
    fn control_bytes_of_a_guest_do_not_reach_a_terminal() {
        let tail = Tail::default();
        tail.read(&b"\x1b[31mred\x07\n"[..]);
        assert_eq!(tail.last(1), "[31mred");
    }
}
