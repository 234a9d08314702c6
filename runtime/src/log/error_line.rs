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
    printable(&line)
}

/// A text on one line, without what would change how a terminal shows it.
#[must_use]
pub fn printable(text: &str) -> String {
    text.replace('\n', " ").replace(is_unprintable, "?")
}

/// Controls, and characters that are not seen themselves but change how others are: the
/// direction of the text, where lines break, what is joined (Unicode's categories Cc,
/// Cf, Zl and Zp).
#[must_use]
pub fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e007f}'
        )
}

/// `No such file or directory (os error 2)` in the words that callers match.
#[must_use]
pub fn plain(text: &str) -> String {
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
        let err = crate::process::Error::Spawn {
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

    #[test]
    fn a_text_of_the_guest_cannot_turn_or_hide_itself() {
        let hidden = [
            0x61c, 0x200b, 0x200c, 0x200d, 0x200e, 0x200f, 0x2028, 0x2029, 0x202a, 0x202b, 0x202c,
            0x202d, 0x202e, 0x2060, 0x2066, 0x2067, 0x2068, 0x2069, 0xfeff, 0xe0041,
        ];
        for character in hidden.map(|code| char::from_u32(code).unwrap()) {
            let err = std::io::Error::other(format!("a{character}b"));
            assert_eq!(chain(&err), "a?b", "{character:?}");
        }
        let err = std::io::Error::other("na\u{ef}ve \u{5d0}\u{4e2d}\u{1f600}");
        assert_eq!(chain(&err), "na\u{ef}ve \u{5d0}\u{4e2d}\u{1f600}");
    }
}
