//! The rules of the tree that no compiler checks: sizes, names, headers, where
//! `unsafe` may stand, and what no file may contain.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use walkdir::WalkDir;

/// Lines of a file without its tests.
const MAX_FILE_LINES: usize = 700;
const MAX_FUNCTION_LINES: usize = 80;
/// Words that say what a type is made of or that it does something, not what it is.
const REFUSED_SUFFIXES: &[&str] = &[
    "Manager", "Handler", "Helper", "Util", "Utils", "Inner", "Wrapper", "Context", "Info", "Data",
];
const REFUSED_FILES: &[&str] = &["util", "utils", "common", "misc", "helper", "helpers"];
/// Folders in which system calls without a safe form are wrapped.
const UNSAFE_FOLDERS: &[&str] = &[
    "runtime/src/sys",
    "runtime/vmm/src/sys",
    "runtime/jail/src/sys",
    "guest-agent/src/sys",
];
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

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Files of the tree with these endings, by their path below the root.
fn files(endings: &[&str]) -> Vec<(PathBuf, String)> {
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

fn is_test_file(path: &Path) -> bool {
    let stem = path.file_stem().unwrap().to_string_lossy();
    stem.ends_with("_test") || stem == "tests"
}

/// What one file does against the rules.
struct Inspection {
    may_be_unsafe: bool,
    test_lines: usize,
    faults: Vec<String>,
}

impl Inspection {
    fn of(path: &Path, text: &str) -> Self {
        let mut inspection = Self {
            may_be_unsafe: UNSAFE_FOLDERS.iter().any(|folder| path.starts_with(folder)),
            test_lines: 0,
            faults: Vec::new(),
        };
        inspection.visit_file(&syn::parse_file(text).unwrap());
        let lines = text.lines().count() - inspection.test_lines;
        if lines > MAX_FILE_LINES && !is_test_file(path) {
            inspection
                .faults
                .push(format!("{lines} lines without tests"));
        }
        if !text.starts_with("//!") {
            inspection
                .faults
                .push("does not begin with //! and what it owns".into());
        }
        if REFUSED_FILES
            .iter()
            .any(|name| path.file_stem().is_some_and(|stem| stem == *name))
        {
            inspection.faults.push("its name says nothing".into());
        }
        inspection
    }

    fn function(&mut self, name: &syn::Ident, span: proc_macro2::Span) {
        let lines = span.end().line - span.start().line + 1;
        if lines > MAX_FUNCTION_LINES {
            self.faults
                .push(format!("function {name} has {lines} lines"));
        }
    }

    fn type_name(&mut self, name: &syn::Ident) {
        let text = name.to_string();
        if REFUSED_SUFFIXES.iter().any(|suffix| text.ends_with(suffix)) {
            self.faults
                .push(format!("type {text} ends in a word that says nothing"));
        }
    }

    fn unsafe_code(&mut self, span: proc_macro2::Span) {
        if !self.may_be_unsafe {
            self.faults
                .push(format!("unsafe code in line {}", span.start().line));
        }
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Ident>()
                .is_ok_and(|word| word == "test")
    })
}

impl<'ast> Visit<'ast> for Inspection {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if is_for_tests(&module.attrs) {
            let span = module.span();
            self.test_lines += span.end().line - span.start().line + 1;
        }
        visit::visit_item_mod(self, module);
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.function(&function.sig.ident, function.span());
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.function(&function.sig.ident, function.span());
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.type_name(&item.ident);
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.type_name(&item.ident);
        visit::visit_item_enum(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.type_name(&item.ident);
        visit::visit_item_trait(self, item);
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.unsafe_code(block.span());
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if item.unsafety.is_some() {
            self.unsafe_code(item.span());
        }
        visit::visit_item_impl(self, item);
    }
}

#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_rust_file_keeps_the_rules_of_size_names_and_unsafe() {
    let faults: Vec<String> = files(&["rs"])
        .iter()
        .flat_map(|(path, text)| {
            let faults = Inspection::of(path, text).faults;
            faults
                .into_iter()
                .map(move |fault| format!("{}: {fault}", path.display()))
        })
        .collect();
    assert_none(&faults);
}

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
        .map(|(path, _)| format!("{}: no comment says what it is for", path.display()))
        .collect();
    assert_none(&faults);
}

#[test]
fn an_inspection_finds_what_is_wrong() {
    let long = "    let _ = 1;\n".repeat(MAX_FUNCTION_LINES);
    let text = format!("fn f() {{\n{long}}}\nstruct PathHelper;\nfn g() {{ unsafe {{ h() }} }}\n");
    let faults = Inspection::of(Path::new("runtime/src/utils.rs"), &text).faults;
    assert_eq!(faults.len(), 5, "{faults:?}");
    let fine = "//! Owns it.\n#[cfg(test)]\nmod tests {\n    use super::*;\n}\n";
    assert!(Inspection::of(Path::new("a.rs"), fine).faults.is_empty());
}
