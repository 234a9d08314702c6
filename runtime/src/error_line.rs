//! An error with all its causes as the one line that callers of runc read.
//!
//! Owns the form of that line: the words that callers match. Who prints it is
//! not known here.

use std::error::Error;

/// An error with all its causes on one line, as callers of runc expect it. Texts of the
/// guest are in it, which must not reach the controls of a terminal.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&plain(&cause.to_string()));
        source = cause.source();
    }
    line.replace('\n', " ").replace(char::is_control, "?")
}

/// `No such file or directory (os error 2)` in the words that callers match.
fn plain(text: &str) -> String {
    let Some((words, _)) = text.split_once(" (os error") else {
        return text.to_owned();
    };
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(letters).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_one_line_in_the_words_callers_match() {
        let source = std::io::Error::from_raw_os_error(2);
        let err = crate::sandbox::Error::Spawn {
            program: "/x".into(),
            source,
        };
        assert_eq!(chain(&err), "start /x: no such file or directory");
    }

    #[test]
    fn a_text_of_the_guest_does_not_reach_the_terminals_controls() {
        let err = std::io::Error::other("x\x1b[2J\ty\nz\u{9b}");
        assert_eq!(chain(&err), "x?[2J?y z?");
    }
}
