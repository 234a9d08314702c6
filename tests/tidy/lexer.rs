//! Comments and literals of a Rust file, which the parser throws away or mixes up.
//!
//! Knows only enough of the language to find where they begin and end.

/// One line of a comment, or one literal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) kind: Kind,
    /// Counted from 1, as spans are.
    pub(crate) line: usize,
    pub(crate) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Comment,
    Literal,
}

pub(crate) fn pieces(text: &str) -> Vec<Piece> {
    let mut lexer = Lexer {
        rest: text,
        line: 1,
        pieces: Vec::new(),
    };
    while !lexer.rest.is_empty() {
        lexer.step();
    }
    lexer.pieces
}

/// Returns how many of the words of `text` are in `wanted`; case doesn't count.
pub(crate) fn count_words(text: &str, wanted: &[&str]) -> usize {
    text.split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| wanted.contains(&word.to_lowercase().as_str()))
        .count()
}

struct Lexer<'t> {
    rest: &'t str,
    line: usize,
    pieces: Vec<Piece>,
}

impl<'t> Lexer<'t> {
    fn step(&mut self) {
        let first = self.rest.chars().next().unwrap();
        if self.rest.starts_with("//") {
            let length = self.rest.find('\n').unwrap_or(self.rest.len());
            self.take(Kind::Comment, length);
        } else if self.rest.starts_with("/*") {
            let length = block_length(self.rest);
            self.take(Kind::Comment, length);
        } else if let Some(length) = raw_length(self.rest) {
            self.take(Kind::Literal, length);
        } else if first == '"' {
            let length = quoted_length(self.rest, '"');
            self.take(Kind::Literal, length);
        } else if first == '\'' {
            let length = character_length(self.rest);
            self.skip(length);
        } else if first.is_alphanumeric() || first == '_' {
            let is_end = |letter: char| !letter.is_alphanumeric() && letter != '_';
            self.skip(self.rest.find(is_end).unwrap_or(self.rest.len()));
        } else {
            self.skip(first.len_utf8());
        }
    }

    fn take(&mut self, kind: Kind, length: usize) {
        let line = self.line;
        let text = self.skip(length);
        let lines: Vec<&str> = match kind {
            Kind::Comment => text.lines().collect(),
            Kind::Literal => vec![text],
        };
        self.pieces
            .extend(lines.iter().zip(line..).map(|(text, line)| Piece {
                kind,
                line,
                text: (*text).to_owned(),
            }));
    }

    fn skip(&mut self, length: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at(length);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }
}

fn block_length(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
        } else {
            at += rest.chars().next().unwrap().len_utf8();
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// `r"..."`, `r#"..."#` and those of bytes and C.
fn raw_length(text: &str) -> Option<usize> {
    let after = ["br", "cr", "r"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))?;
    let marks = after.len() - after.trim_start_matches('#').len();
    let body = after[marks..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(marks));
    let length = body.find(&end)? + end.len();
    Some(text.len() - body.len() + length)
}

fn quoted_length(text: &str, mark: char) -> usize {
    let mut is_escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        if letter == mark && !is_escaped {
            return at + letter.len_utf8();
        }
        is_escaped = letter == '\\' && !is_escaped;
    }
    text.len()
}

/// A character, or only the mark of a lifetime.
fn character_length(text: &str) -> usize {
    let mut letters = text.char_indices().skip(1);
    match (letters.next(), letters.next()) {
        (Some((_, '\\')), _) => quoted_length(text, '\''),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

#[test]
fn comments_and_literals_are_found_where_they_are() {
    let text = "//! One.\nlet a = \"// no \\\" comment\"; // two\nlet b = r#\"x \" y\"#;\n\
                /* three\n four */ let c: &'static str = '\"'; let d = '\\''; /// five\n";
    let found = pieces(text);
    let shown: Vec<(usize, &str)> = found
        .iter()
        .map(|piece| (piece.line, piece.text.as_str()))
        .collect();
    let expected = [
        (1, "//! One."),
        (2, "\"// no \\\" comment\""),
        (2, "// two"),
        (3, "r#\"x \" y\"#"),
        (4, "/* three"),
        (5, " four */"),
        (5, "/// five"),
    ];
    assert_eq!(shown, expected);
    assert_eq!(found[1].kind, Kind::Literal);
}

#[test]
fn only_whole_words_count() {
    assert_eq!(
        count_words("Folder, folders; subfolder_x", &["folder", "folders"]),
        2
    );
}
