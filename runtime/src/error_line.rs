//! An error with all its causes as the one line that callers of runc read.
//!
//! Owns the form of that line: the words that callers match. Who prints it is
//! not known here.

use std::error::Error;

/// An error with all its causes on one line, as callers of runc expect it.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&plain(&cause.to_string()));
        source = cause.source();
    }
    line.replace('\n', " ")
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
}
