//! Small trees, and the arrows and cycles that are in them.

use super::*;

/// The graph of a library `one`, a program beside it, and a library `two`.
fn graph(files: &[(&str, &str)]) -> Graph {
    let sources = files
        .iter()
        .map(|(path, text)| {
            let source = Source {
                text: (*text).to_owned(),
                syntax: syn::parse_file(text).unwrap(),
                package: String::new(),
            };
            (PathBuf::from(path), source)
        })
        .collect::<BTreeMap<_, _>>();
    let package = |name: &str| Package {
        name: name.to_owned(),
        directory: name.into(),
        roots: [format!("{name}/lib.rs"), format!("{name}/main.rs")]
            .iter()
            .map(PathBuf::from)
            .filter(|root| sources.contains_key(root))
            .collect(),
    };
    Graph::of(&[package("one"), package("two")], &sources)
}

#[track_caller]
fn assert_arrows(files: &[(&str, &str)], expected: &[&str]) {
    let graph = graph(files);
    let arrows: Vec<String> = graph
        .arrows
        .iter()
        .flat_map(|(from, targets)| {
            let line = |to: &PathBuf| format!("{} -> {}", from.display(), to.display());
            targets.iter().map(line)
        })
        .collect();
    assert_eq!(arrows, expected);
}

#[test]
fn an_import_leads_to_the_file_that_defines_the_item() {
    let files = &[
        ("one/lib.rs", "mod a; mod b;"),
        ("one/a.rs", "use crate::b::{Deep as D, low::helper};"),
        ("one/b/mod.rs", "pub mod low; pub(crate) use low::Deep;"),
        ("one/b/low.rs", "pub struct Deep; pub fn helper() {}"),
    ];
    assert_arrows(files, &["one/a.rs -> one/b/low.rs"]);
}

#[test]
fn a_path_in_code_and_in_a_macro_counts_as_an_import_does() {
    let files = &[
        ("one/lib.rs", "mod a; mod b; mod c; mod d;"),
        (
            "one/a.rs",
            "use crate::c; fn f() { super::b::g(); println!(\"{}\", c::h(1)); } \
             #[serde(with = crate::d::hex)] struct S;",
        ),
        ("one/b.rs", "pub fn g() {}"),
        ("one/c.rs", "pub fn h(_: u8) {}"),
        ("one/d.rs", "pub mod hex {}"),
    ];
    assert_arrows(files, &["one/a.rs -> one/b.rs", "one/a.rs -> one/c.rs"]);
}

#[test]
fn a_parent_that_only_declares_and_re_exports_has_no_arrow() {
    let child = ("one/p/child.rs", "use super::Other; pub struct X(Other);");
    let other = ("one/p/other.rs", "pub struct Other;");
    let silent = &[
        ("one/lib.rs", "mod p;"),
        (
            "one/p/mod.rs",
            "mod child; mod other; pub use child::X; pub use other::Other;",
        ),
        child,
        other,
    ];
    assert_arrows(silent, &["one/p/child.rs -> one/p/other.rs"]);
    let using = &[
        ("one/lib.rs", "mod p;"),
        (
            "one/p/mod.rs",
            "mod child; mod other; pub use child::X; use other::Other; fn f(_: X) {}",
        ),
        child,
        other,
    ];
    assert_arrows(
        using,
        &[
            "one/p/child.rs -> one/p/other.rs",
            "one/p/mod.rs -> one/p/child.rs",
            "one/p/mod.rs -> one/p/other.rs",
        ],
    );
}

#[test]
fn globs_associated_items_and_other_crates_are_followed() {
    let files = &[
        ("one/lib.rs", "pub mod a; mod b;"),
        (
            "one/main.rs",
            "fn main() { one::a::run(); two::made_by_build_script::Type::new(); }",
        ),
        (
            "one/a.rs",
            "use crate::b::*; pub fn run() { let _ = Kind::First; }",
        ),
        ("one/b.rs", "pub enum Kind { First } use std::fmt;"),
        ("two/lib.rs", ""),
    ];
    assert_arrows(
        files,
        &[
            "one/a.rs -> one/b.rs",
            "one/main.rs -> one/a.rs",
            "one/main.rs -> two/lib.rs",
        ],
    );
}

#[test]
fn tests_and_declarations_are_no_arrows() {
    let files = &[
        (
            "one/lib.rs",
            "mod a; mod b; pub mod run { pub use self::run; }",
        ),
        (
            "one/a.rs",
            "#[cfg(test)] use crate::b::B; #[cfg(test)] mod tests { use crate::b::B; }",
        ),
        ("one/b.rs", "pub struct B; pub(in crate::a) struct C;"),
    ];
    assert_arrows(files, &[]);
}

#[test]
fn a_cycle_is_the_files_that_reach_each_other() {
    let graph = graph(&[
        ("one/lib.rs", "mod a; mod b; mod c; mod d; mod e;"),
        ("one/a.rs", "use crate::b::B; pub struct A;"),
        ("one/b.rs", "use crate::c::C; pub struct B;"),
        (
            "one/c.rs",
            "use crate::a::A; use crate::d::D; pub struct C;",
        ),
        ("one/d.rs", "use crate::e::E; pub struct D;"),
        ("one/e.rs", "pub struct E;"),
    ]);
    let cycles = graph.cycles();
    assert_eq!(cycles.len(), 1);
    let expected = ["one/a.rs", "one/b.rs", "one/c.rs"].map(Path::new);
    assert_eq!(cycles[0], expected);
}

#[test]
fn a_new_cycle_and_a_listed_one_that_is_gone_are_faults() {
    let set = |cycles: &[&str]| cycles.iter().map(|cycle| written(&[cycle])).collect();
    let faults = faults(&set(&["a.rs", "b.rs"]), &set(&["b.rs", "c.rs"]));
    assert_eq!(faults.len(), 2);
    assert!(faults[0].starts_with("a cycle of imports") && faults[0].contains("a.rs"));
    assert!(faults[1].starts_with("no longer a cycle") && faults[1].contains("c.rs"));
    assert!(super::faults(&set(&["a.rs"]), &set(&["a.rs"])).is_empty());
}
