//! The rules of the tree that no compiler checks, a module each: sizes and
//! `unsafe`, the graph of imports, names, prose, and the map in ARCHITECTURE.md.
//!
//! A fault that is older than its rule is under a ceiling (`figures`): the number
//! may fall, and never rises.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod architecture;
mod arrows;
mod benchmark;
mod contents;
mod figures;
mod graph;
mod lexer;
mod modules;
mod names;
mod prose;
mod sizes;
mod texts;
mod tree;

#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
