//! Which part may use which, as ARCHITECTURE.md has it in its section "Arrows":
//! between crates, and between the parts of `runtime/src`.
//!
//! A part is a file or a directory at the top of `runtime/src`; a file and the
//! directory of its modules are one, and `lib.rs` is none. `BLESS=1` writes the block anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::assert_none;
use crate::graph::Graph;
use crate::tree::{Package, package_of, packages, root};

const PAGE: &str = "ARCHITECTURE.md";
const BEGIN: &str = "```arrows\n";
const END: &str = "```\n";
const HOST: &str = "runtime/src";

pub(crate) type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Returns the arrows that `name` of both ends makes out of those between files.
fn arrows(graph: &Graph, name: impl Fn(&Path) -> Option<String>) -> Arrows {
    let mut found = Arrows::new();
    for (from, targets) in &graph.arrows {
        for target in targets {
            if let (Some(from), Some(to)) = (name(from), name(target))
                && from != to
            {
                found.entry(from).or_default().insert(to);
            }
        }
    }
    found
}

pub(crate) fn between_packages(graph: &Graph, packages: &[Package]) -> Arrows {
    arrows(graph, |file| {
        package_of(packages, file).map(|package| package.name.clone())
    })
}

pub(crate) fn between_parts(graph: &Graph) -> Arrows {
    arrows(graph, part_of)
}

pub(crate) fn part_of(file: &Path) -> Option<String> {
    let inside = file.strip_prefix(HOST).ok()?;
    let first = inside.components().next()?.as_os_str().to_str()?;
    let part = first.strip_suffix(".rs").unwrap_or(first);
    (part != "lib").then(|| part.to_owned())
}

fn written(arrows: &Arrows) -> String {
    arrows
        .iter()
        .map(|(from, targets)| {
            let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
            format!("{from} -> {}\n", targets.join(", "))
        })
        .collect()
}

fn read(block: &str) -> Arrows {
    block
        .lines()
        .filter_map(|line| line.split_once(" -> "))
        .map(|(from, targets)| {
            let targets = targets.split(", ").map(str::to_owned);
            (from.to_owned(), targets.collect())
        })
        .collect()
}

/// The byte range of the block in the page.
fn block(page: &str) -> Option<std::ops::Range<usize>> {
    let begin = page.find(BEGIN)? + BEGIN.len();
    Some(begin..begin + page[begin..].find(END)?)
}

fn faults(listed: &Arrows, found: &Arrows) -> Vec<String> {
    let missing_in = |there: &Arrows, here: &Arrows, fault: &str| {
        let mut faults = Vec::new();
        for (from, targets) in here {
            let known = there.get(from);
            let missing = targets
                .iter()
                .filter(|to| known.is_none_or(|known| !known.contains(*to)));
            faults.extend(missing.map(|to| format!("{fault}: {from} -> {to}")));
        }
        faults
    };
    let mut faults = missing_in(listed, found, "an arrow that ARCHITECTURE.md does not list");
    let gone = "ARCHITECTURE.md lists an arrow that does not exist";
    faults.extend(missing_in(found, listed, gone));
    faults
}

#[test]
fn every_arrow_is_listed_and_every_listed_one_exists() {
    let graph = Graph::of_tree();
    let packages = between_packages(&graph, &packages());
    let parts = between_parts(&graph);
    let path: PathBuf = root().join(PAGE);
    let page = fs::read_to_string(&path).unwrap();
    let range = block(&page).unwrap();
    if std::env::var_os("BLESS").is_some() {
        let mut blessed = page;
        let text = format!("{}\n{}", written(&packages), written(&parts));
        blessed.replace_range(range, &text);
        fs::write(&path, blessed).unwrap();
        return;
    }
    let mut found = packages;
    found.extend(parts);
    assert_none(&faults(&read(&page[range]), &found));
}

#[test]
fn a_block_reads_as_it_is_written() {
    let text = "cli -> container, oci\ncontainer -> oci\n";
    let page = format!("# Map\n\n{BEGIN}{text}{END}\nMore.\n");
    let arrows = read(&page[block(&page).unwrap()]);
    assert_eq!(arrows["cli"].len(), 2);
    assert_eq!(written(&arrows), text);
    assert!(block("# Map\n").is_none());
}

#[test]
fn arrows_are_compared_in_both_directions() {
    let listed = read("a -> b, c\nd -> a\n");
    let found = read("a -> b, d\n");
    let expected = [
        "an arrow that ARCHITECTURE.md does not list: a -> d",
        "ARCHITECTURE.md lists an arrow that does not exist: a -> c",
        "ARCHITECTURE.md lists an arrow that does not exist: d -> a",
    ];
    assert_eq!(faults(&listed, &found), expected);
    assert_eq!(faults(&listed, &listed), Vec::<String>::new());
}

#[test]
fn a_file_and_the_directory_of_its_modules_are_one_part() {
    let part = |path: &str| part_of(Path::new(path));
    assert_eq!(part("runtime/src/plan.rs").as_deref(), Some("plan"));
    assert_eq!(part("runtime/src/plan/size.rs").as_deref(), Some("plan"));
    assert_eq!(part("runtime/src/lib.rs"), None);
    assert_eq!(part("runtime/vmm/src/spec.rs"), None);
}
