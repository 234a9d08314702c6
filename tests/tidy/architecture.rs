//! ARCHITECTURE.md names only what exists, and its walks stay short.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::assert_none;
use crate::tree::{packages, root};

const PAGE: &str = "ARCHITECTURE.md";
const WALKS: &str = "\n## Four walks\n";
/// Where a name without a crate beside it is.
const HOST: &str = "runtime/src";
const ENDINGS: &[&str] = &[".rs", ".md", ".sh", ".proto", "/"];
/// A reader follows no walk of more stops than this.
const MAX_FILES_OF_A_WALK: usize = 12;

/// Names in backticks of a line or a paragraph.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Targets of links to files of the tree.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1);
    targets
        .filter_map(|rest| rest.split([')', '#']).next())
        .filter(|link| !link.is_empty() && !link.contains("://"))
}

/// Paragraphs, items of lists and rows of tables, without fenced blocks.
fn passages(page: &str) -> Vec<String> {
    let mut passages = vec![String::new()];
    let mut is_fenced = false;
    for line in page.lines() {
        if line.starts_with("```") {
            is_fenced = !is_fenced;
            continue;
        }
        if is_fenced {
            continue;
        }
        let is_first = ["- ", "| ", "#"].iter().any(|mark| line.starts_with(mark));
        if line.is_empty() || is_first {
            passages.push(String::new());
        }
        let passage = passages.last_mut().unwrap();
        passage.push_str(line);
        passage.push('\n');
    }
    passages
}

/// Directories that names of a passage can be below: the root, the host's part, and
/// each crate or directory that the passage names.
fn bases(passage: &str, tree: &Tree) -> Vec<PathBuf> {
    let mut bases = vec![PathBuf::new(), PathBuf::from(HOST)];
    for name in names(passage) {
        let crates = tree.crates.iter();
        let named = crates.filter(|known| {
            let inside = Path::new(name).starts_with(&known.directory);
            inside
                || name.split("::").next() == Some(&known.name.replace('-', "_"))
                || name == known.name
        });
        bases.extend(named.map(|known| known.directory.clone()));
        if name.ends_with('/') && (tree.exists)(Path::new(name)) {
            bases.push(name.into());
        }
    }
    let inner: Vec<PathBuf> = bases.iter().map(|base| base.join("src")).collect();
    bases.extend(inner);
    bases
}

struct Crate {
    name: String,
    directory: PathBuf,
}

/// What there is, of this tree or of a test.
struct Tree {
    crates: Vec<Crate>,
    exists: fn(&Path) -> bool,
}

impl Tree {
    fn here() -> Self {
        let crates = packages().into_iter().map(|package| Crate {
            name: package.name,
            directory: package.directory,
        });
        Self {
            crates: crates.collect(),
            exists: |path| root().join(path).exists(),
        }
    }

    /// Returns the file or directory that a name of a passage means.
    fn find(&self, name: &str, bases: &[PathBuf]) -> Option<PathBuf> {
        let forms = [
            format!("{name}.rs"),
            format!("{name}/mod.rs"),
            name.to_owned(),
        ];
        let mut places = bases
            .iter()
            .flat_map(|base| forms.iter().map(|form| base.join(form)));
        places.find(|path| (self.exists)(path))
    }
}

/// Whether a name in backticks is meant as a path of the tree.
fn is_path(name: &str) -> bool {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./".contains(letter);
    let is_inside = name.contains('/') || ENDINGS.iter().any(|ending| name.ends_with(ending));
    name.chars().all(is_plain) && is_inside && !name.starts_with(['/', '.'])
}

fn faults(page: &str, tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for passage in passages(page) {
        let bases = bases(&passage, tree);
        let missing = names(&passage)
            .filter(|name| is_path(name) && tree.find(name, &bases).is_none())
            .map(|name| format!("{PAGE}: `{name}` does not exist"));
        faults.extend(missing);
        let broken = links(&passage)
            .filter(|link| !(tree.exists)(Path::new(link)))
            .map(|link| format!("{PAGE}: the link to {link} leads nowhere"));
        faults.extend(broken);
    }
    faults
}

/// Walks begin with their title in bold, and go on until the next.
fn walks(page: &str) -> Vec<String> {
    let Some((_, section)) = page.split_once(WALKS) else {
        return Vec::new();
    };
    let section = section.split("\n## ").next().unwrap();
    let walks = section.split("\n**").skip(1);
    walks.map(|walk| format!("**{walk}")).collect()
}

/// Returns the Rust files that a walk names, as `dir/file`, `file` or `file::item`; a
/// directory with its slash is none.
fn stops(walk: &str, tree: &Tree) -> BTreeSet<PathBuf> {
    let bases = bases(walk, tree);
    names(walk)
        .filter_map(|name| {
            let path = name.split("::").next()?;
            let is_file = !path.ends_with('/');
            let found = tree.find(path, &bases).filter(|_| is_file)?;
            found
                .extension()
                .is_some_and(|ending| ending == "rs")
                .then_some(found)
        })
        .collect()
}

#[test]
fn the_map_names_only_what_exists() {
    let page = fs::read_to_string(root().join(PAGE)).unwrap();
    assert_none(&faults(&page, &Tree::here()));
}

#[test]
fn a_walk_names_few_files() {
    let page = fs::read_to_string(root().join(PAGE)).unwrap();
    let tree = Tree::here();
    let walks = walks(&page);
    assert!(!walks.is_empty());
    let faults: Vec<String> = walks
        .iter()
        .map(|walk| (walk, stops(walk, &tree)))
        .filter(|(_, stops)| stops.len() > MAX_FILES_OF_A_WALK)
        .map(|(walk, stops)| format!("{} files: {stops:?}\n{walk}", stops.len()))
        .collect();
    assert_none(&faults);
}

#[cfg(test)]
fn small_tree() -> Tree {
    Tree {
        crates: vec![Crate {
            name: "caisson-vmm".into(),
            directory: "runtime/vmm".into(),
        }],
        exists: |path| {
            let known = [
                "runtime/src/cli/run.rs",
                "runtime/src/plan.rs",
                "runtime/vmm/",
                "runtime/vmm/src/spec.rs",
                "docs/files.md",
            ];
            known.iter().any(|known| Path::new(known) == path)
        },
    }
}

#[test]
fn names_are_looked_for_where_their_passage_is() {
    let fine = "`cli/run` and `plan.rs`, [files](docs/files.md#a), `/proc/self`, `a + b/c`\n\n\
                | `runtime/vmm/` | `src/spec.rs` |\n\n- `caisson-vmm`: `spec.rs`\n\n\
                ```\n`gone.rs`\n```\n";
    assert_eq!(faults(fine, &small_tree()), Vec::<String>::new());
    let wrong = "`spec.rs`, `cli/gone`\n[x](docs/gone.md)\n";
    let expected = [
        "ARCHITECTURE.md: `spec.rs` does not exist",
        "ARCHITECTURE.md: `cli/gone` does not exist",
        "ARCHITECTURE.md: the link to docs/gone.md leads nowhere",
    ];
    assert_eq!(faults(wrong, &small_tree()), expected);
}

#[test]
fn stops_of_a_walk_are_distinct_files() {
    let page = "# A\n\n## Four walks\n\n**One.** `cli/run` asks `plan::make`,\n`plan` and `read()`.\n\n\
                More of `caisson-vmm`: `spec`.\n\n**Two.** None.\n\n## Else\n\n**No.** `plan`\n";
    let walks = walks(page);
    assert_eq!(walks.len(), 2);
    assert_eq!(stops(&walks[0], &small_tree()).len(), 3);
    assert!(stops(&walks[1], &small_tree()).is_empty());
}
