//! The graph of imports between files of production code, and its cycles.
//!
//! An arrow goes from a file that uses an item to the file that defines it. `mod` is
//! none, and neither are a `pub use` of what is below, nor a parent's path that begins
//! with the name of its child: a file which declares, re-exports and hands work to its
//! modules is no stop on the way. What it imports from them by `use` is an arrow.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::assert_none;
use crate::modules::{Modules, Target};
use crate::tree::{Package, Source, packages, production};

/// Cycles that are older than the rule, each with its files in order. One that is
/// mended leaves this list, and none is added.
const KNOWN_CYCLES: &[&[&str]] = &[];

#[derive(Default)]
pub(crate) struct Graph {
    pub(crate) arrows: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
}

impl Graph {
    pub(crate) fn of_tree() -> Self {
        Self::of(&packages(), &production())
    }

    pub(crate) fn of(packages: &[Package], sources: &BTreeMap<PathBuf, Source>) -> Self {
        let modules = Modules::of(packages, sources);
        let mut graph = Self::default();
        for (index, module) in modules.all.iter().enumerate() {
            for target in used_by(&modules, index) {
                graph.add(&module.file, &modules.all[target].file);
            }
        }
        graph
    }

    fn add(&mut self, from: &Path, to: &Path) {
        if from != to {
            let targets = self.arrows.entry(from.to_owned()).or_default();
            targets.insert(to.to_owned());
        }
    }

    fn reachable(&self, from: &Path) -> BTreeSet<&Path> {
        let mut found = BTreeSet::new();
        let mut waiting: Vec<&Path> = Vec::new();
        let mut targets = self.arrows.get(from);
        loop {
            let further = targets.into_iter().flatten().map(PathBuf::as_path);
            waiting.extend(further.filter(|target| found.insert(*target)));
            let Some(file) = waiting.pop() else {
                return found;
            };
            targets = self.arrows.get(file);
        }
    }

    /// Groups of files of which each reaches all others, the largest first.
    pub(crate) fn cycles(&self) -> Vec<Vec<&Path>> {
        let reachable: BTreeMap<&Path, BTreeSet<&Path>> = self
            .arrows
            .keys()
            .map(|file| (file.as_path(), self.reachable(file)))
            .collect();
        let mut seen = BTreeSet::new();
        let mut cycles = Vec::new();
        for (file, targets) in &reachable {
            if !targets.contains(file) || seen.contains(file) {
                continue;
            }
            let leads_back = |target: &&&Path| {
                reachable
                    .get(**target)
                    .is_some_and(|back| back.contains(file))
            };
            let cycle: Vec<&Path> = targets.iter().filter(leads_back).copied().collect();
            seen.extend(cycle.iter().copied());
            cycles.push(cycle);
        }
        cycles.sort_by_key(|cycle| std::cmp::Reverse(cycle.len()));
        cycles
    }
}

/// Returns the modules whose items `module` uses.
fn used_by(modules: &Modules, module: usize) -> BTreeSet<usize> {
    let contents = &modules.all[module].contents;
    let mut used = BTreeSet::new();
    for import in &contents.imports {
        for target in modules.resolve(module, &import.segments) {
            // What is imported as a module is used by paths that begin with it.
            let Target::Item(other) = target else {
                continue;
            };
            if !import.is_public || !modules.is_below(other, module) {
                used.insert(other);
            }
        }
    }
    for mention in &contents.mentions {
        if mention.len() > 1 && modules.is_child(module, &mention[0]) {
            continue;
        }
        for target in modules.resolve(module, mention) {
            if let Target::Item(other) = target {
                used.insert(other);
            }
        }
    }
    used
}

/// A cycle as it is written in `KNOWN_CYCLES`.
fn written<P: AsRef<Path>>(cycle: &[P]) -> String {
    let lines: Vec<String> = cycle
        .iter()
        .map(|file| format!("        {:?},\n", file.as_ref()))
        .collect();
    format!("    &[\n{}    ],", lines.concat())
}

fn faults(found: &BTreeSet<String>, known: &BTreeSet<String>) -> Vec<String> {
    let added = found
        .difference(known)
        .map(|cycle| format!("a cycle of imports:\n{cycle}"));
    let gone = known
        .difference(found)
        .map(|cycle| format!("no longer a cycle, remove it from KNOWN_CYCLES:\n{cycle}"));
    added.chain(gone).collect()
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let graph = Graph::of_tree();
    let found = graph.cycles().iter().map(|cycle| written(cycle)).collect();
    let known = KNOWN_CYCLES.iter().map(|cycle| written(cycle)).collect();
    assert_none(&faults(&found, &known));
}

#[cfg(test)]
#[path = "graph_test.rs"]
mod tests;
