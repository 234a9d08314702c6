//! How comments, documentation and messages are worded: words and phrases that
//! stand in for the field's own, counted until there are none.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::lexer::{Kind, Piece, count_words, pieces};
use crate::tree::{Source, TestLines, files};

/// For a log line, a reply, an error, an event: each has a verb of its own.
const TELLING: &[&str] = &[
    "tell", "tells", "told", "telling", "say", "says", "said", "saying",
];
/// The man pages' word is directory.
const FOLDERS: &[&str] = &["folder", "folders"];

/// Numbers of one text, or of all of them.
#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) struct Wording {
    pub(crate) comment_lines_that_tell: usize,
    pub(crate) see_the_module: usize,
    pub(crate) the_answer_is: usize,
    pub(crate) folders: usize,
}

impl Wording {
    /// Returns the numbers of production code and of all pages.
    pub(crate) fn of_tree(sources: &BTreeMap<PathBuf, Source>) -> Self {
        let mut wording = Self::default();
        for source in sources.values() {
            wording.count(&source.text, &source.syntax);
        }
        for (_, page) in files(&["md"]) {
            wording.folders += count_words(&page, FOLDERS);
        }
        wording
    }

    fn count(&mut self, text: &str, syntax: &syn::File) {
        let tests = TestLines::of(syntax);
        let mut comment = Vec::new();
        let mut last = 0;
        for piece in pieces(text) {
            if tests.contain(piece.line) {
                continue;
            }
            self.folders += count_words(&piece.text, FOLDERS);
            if piece.kind == Kind::Literal {
                continue;
            }
            if count_words(&piece.text, TELLING) > 0 {
                self.comment_lines_that_tell += 1;
            }
            if piece.line != last + 1 {
                self.phrases(&std::mem::take(&mut comment));
            }
            last = piece.line;
            comment.push(piece);
        }
        self.phrases(&comment);
    }

    /// A phrase may go over the end of a line.
    fn phrases(&mut self, comment: &[Piece]) {
        let is_mark = |letter: char| letter == '/' || letter == '!' || letter.is_whitespace();
        let lines = comment.iter();
        let text: Vec<&str> = lines
            .map(|piece| piece.text.trim_start_matches(is_mark).trim_end())
            .collect();
        let text = text.join(" ");
        self.see_the_module += text.matches("See the module.").count();
        self.the_answer_is += text.matches("The answer is").count();
    }
}

#[test]
fn wording_is_counted_in_comments_documentation_and_literals() {
    let text = "//! Tells what it is told.\n/// See the module. The answer\n/// is a folder.\n\
                fn said(folder: u8) { f(\"a folder, says it\"); } // Nobody said `told_you`.\n\
                #[cfg(test)]\nmod tests { // The answer is a folder, they say.\n}\n";
    let mut wording = Wording::default();
    wording.count(text, &syn::parse_file(text).unwrap());
    let expected = Wording {
        comment_lines_that_tell: 2,
        see_the_module: 1,
        the_answer_is: 1,
        folders: 2,
    };
    assert_eq!(wording, expected);
}

#[test]
fn the_fields_own_words_are_not_counted() {
    let text = "/// Returns the directory. Answers in foretelling words.\nfn f() {}\n";
    let mut wording = Wording::default();
    wording.count(text, &syn::parse_file(text).unwrap());
    assert_eq!(wording, Wording::default());
}
