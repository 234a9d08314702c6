//! What no file of the tree may contain, and what a script begins with.

use crate::assert_none;
use crate::tree::files;

/// Put together here, so that this file passes too.
const REFUSED_TEXT: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/."),
    concat!("/tmp/tar", "get"),
    concat!("docker", ".io/"),
    concat!("ghcr", ".io"),
    concat!("quay", ".io"),
    concat!("gcr", ".io"),
];
const TEXT_FILES: &[&str] = &["rs", "toml", "sh", "md", "proto", "config", "txt", "c"];

#[test]
fn no_file_holds_notes_to_self_or_the_place_it_was_written_at() {
    let faults: Vec<String> = files(TEXT_FILES)
        .iter()
        .flat_map(|(path, text)| {
            let refused = REFUSED_TEXT.iter().filter(|word| text.contains(**word));
            refused.map(move |word| format!("{}: {word:?}", path.display()))
        })
        .collect();
    assert_none(&faults);
}

#[test]
fn every_script_begins_with_what_it_is_for() {
    let faults: Vec<String> = files(&["sh"])
        .iter()
        .filter(|(_, text)| {
            let mut lines = text.lines().skip_while(|line| line.starts_with("#!"));
            !lines.next().is_some_and(|line| line.starts_with("# "))
        })
        .map(|(path, _)| format!("{}: no comment names its purpose", path.display()))
        .collect();
    assert_none(&faults);
}
