//! The tree as the rules see it: files by their path below the root, packages,
//! and which files are production code.
//!
//! Production is what is built into a program that caisson installs: no tests,
//! no examples, and nothing of `tests/`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use walkdir::WalkDir;

/// Directories of a package that hold no production code.
const TEST_DIRECTORIES: &[&str] = &["tests", "examples", "benches"];

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Files of the tree with these endings, by their path below the root, in order.
pub(crate) fn files(endings: &[&str]) -> Vec<(PathBuf, String)> {
    let is_source = |entry: &walkdir::DirEntry| {
        let name = entry.file_name().to_string_lossy();
        entry.depth() == 0 || (name != "target" && !name.starts_with('.'))
    };
    let ending_counts = |path: &Path| match path.extension() {
        Some(ending) => endings.iter().any(|wanted| *wanted == ending),
        None => false,
    };
    let root = root();
    let found: Vec<_> = WalkDir::new(&root)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(is_source)
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file() && ending_counts(entry.path()))
        .map(|entry| {
            let text = fs::read_to_string(entry.path()).unwrap();
            (entry.path().strip_prefix(&root).unwrap().to_owned(), text)
        })
        .collect();
    assert!(!found.is_empty());
    found
}

/// One package of the workspace that has production code.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) directory: PathBuf,
    /// The library's root first, if there is one: other crates import that.
    pub(crate) roots: Vec<PathBuf>,
}

/// Returns the packages of the workspace without those of `tests/`.
pub(crate) fn packages() -> Vec<Package> {
    let workspace = manifest(Path::new(""));
    let members = workspace["workspace"]["members"].as_array().unwrap();
    members
        .iter()
        .map(|member| PathBuf::from(member.as_str().unwrap()))
        .filter(|directory| !directory.starts_with("tests"))
        .map(package)
        .collect()
}

fn manifest(directory: &Path) -> toml::Table {
    let path = root().join(directory).join("Cargo.toml");
    fs::read_to_string(path).unwrap().parse().unwrap()
}

fn package(directory: PathBuf) -> Package {
    let manifest = manifest(&directory);
    let exists = |path: &PathBuf| root().join(path).is_file();
    let mut roots: Vec<PathBuf> = ["src/lib.rs", "src/main.rs"]
        .iter()
        .map(|path| directory.join(path))
        .filter(exists)
        .collect();
    let programs = manifest.get("bin").and_then(toml::Value::as_array);
    let named = programs.into_iter().flatten();
    roots.extend(named.filter_map(|program| Some(directory.join(program.get("path")?.as_str()?))));
    if let Ok(programs) = fs::read_dir(root().join(&directory).join("src/bin")) {
        let names = programs.map(|entry| entry.unwrap().file_name());
        roots.extend(names.map(|name| directory.join("src/bin").join(name)));
    }
    let mut seen = BTreeSet::new();
    roots.retain(|path| seen.insert(path.clone()));
    Package {
        name: manifest["package"]["name"].as_str().unwrap().to_owned(),
        directory,
        roots,
    }
}

/// One parsed file of production code.
pub(crate) struct Source {
    pub(crate) text: String,
    pub(crate) syntax: syn::File,
    pub(crate) package: String,
}

/// All production code, by path below the root.
pub(crate) fn production() -> BTreeMap<PathBuf, Source> {
    let packages = packages();
    let mut found = BTreeMap::new();
    for (path, text) in files(&["rs"]) {
        let Some(package) = package_of(&packages, &path) else {
            continue;
        };
        let inside = path.strip_prefix(&package.directory).unwrap();
        let is_tests = TEST_DIRECTORIES.iter().any(|name| inside.starts_with(name));
        if is_tests || is_test_file(&path) {
            continue;
        }
        let source = Source {
            syntax: syn::parse_file(&text).unwrap(),
            text,
            package: package.name.clone(),
        };
        found.insert(path, source);
    }
    found
}

/// The package with the longest directory that `path` is in.
pub(crate) fn package_of<'p>(packages: &'p [Package], path: &Path) -> Option<&'p Package> {
    packages
        .iter()
        .filter(|package| path.starts_with(&package.directory))
        .max_by_key(|package| package.directory.components().count())
}

pub(crate) fn is_test_file(path: &Path) -> bool {
    let stem = path.file_stem().unwrap().to_string_lossy();
    stem.ends_with("_test") || stem == "tests"
}

pub(crate) fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Ident>()
                .is_ok_and(|word| word == "test")
    })
}

/// Lines of items that exist in tests only.
#[derive(Default)]
pub(crate) struct TestLines {
    spans: Vec<std::ops::RangeInclusive<usize>>,
}

impl TestLines {
    pub(crate) fn of(syntax: &syn::File) -> Self {
        let mut lines = Self::default();
        lines.visit_file(syntax);
        lines
    }

    pub(crate) fn contain(&self, line: usize) -> bool {
        self.spans.iter().any(|span| span.contains(&line))
    }

    pub(crate) fn count(&self) -> usize {
        self.spans
            .iter()
            .map(|span| span.end() - span.start() + 1)
            .sum()
    }
}

impl<'ast> Visit<'ast> for TestLines {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if is_for_tests(attributes(item)) {
            let span = item.span();
            self.spans.push(span.start().line..=span.end().line);
        } else {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if is_for_tests(&function.attrs) {
            let span = function.span();
            self.spans.push(span.start().line..=span.end().line);
        } else {
            visit::visit_impl_item_fn(self, function);
        }
    }
}

/// Attributes of an item of the kinds that may be for tests only.
pub(crate) fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[test]
fn lines_of_tests_are_those_of_their_items() {
    let text = "fn f() {}\n#[cfg(test)]\nmod t {\n    fn g() {}\n}\n#[cfg(unix)]\nfn h() {}\n\
                impl A {\n#[cfg(test)]\nfn i() {}\n}\n";
    let lines = TestLines::of(&syn::parse_file(text).unwrap());
    assert_eq!(lines.count(), 6);
    assert!(lines.contain(2) && lines.contain(5));
    assert!(!lines.contain(1) && !lines.contain(7));
}

#[test]
fn production_is_what_programs_are_built_from() {
    let sources = production();
    assert!(sources.contains_key(Path::new("runtime/src/lib.rs")));
    assert!(sources.contains_key(Path::new("shim/src/pause.rs")));
    assert!(!sources.keys().any(|path| path.starts_with("tests")));
    assert!(!sources.keys().any(|path| is_test_file(path)));
    assert_eq!(
        sources[Path::new("runtime/vmm/src/lib.rs")].package,
        "caisson-vmm"
    );
}
