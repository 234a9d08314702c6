//! How long a file and a function may be, where `unsafe` may stand, what each
//! file begins with, and endings of names that no type has.

use std::path::Path;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::assert_none;
use crate::tree::{TestLines, files, is_test_file};

/// Lines of a file without its tests.
const MAX_FILE_LINES: usize = 700;
const MAX_FUNCTION_LINES: usize = 80;
/// Words that name what a type is made of or that it does something, not what it is.
const REFUSED_SUFFIXES: &[&str] = &[
    "Manager", "Handler", "Helper", "Util", "Utils", "Inner", "Wrapper", "Context", "Info", "Data",
];
const REFUSED_FILES: &[&str] = &["util", "utils", "common", "misc", "helper", "helpers"];
/// Directories in which system calls without a safe form are wrapped.
const UNSAFE_DIRECTORIES: &[&str] = &[
    "runtime/src/sys",
    "runtime/vmm/src/sys",
    "runtime/jail/src/sys",
    "guest-agent/src/sys",
];

/// What one file does against the rules, and what it measures.
pub(crate) struct Inspection {
    may_be_unsafe: bool,
    /// Lines without those of tests.
    pub(crate) lines: usize,
    pub(crate) longest_function: Option<Function>,
    faults: Vec<String>,
}

#[derive(Clone)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) lines: usize,
}

impl Inspection {
    pub(crate) fn of(path: &Path, text: &str) -> Self {
        let syntax = syn::parse_file(text).unwrap();
        let mut inspection = Self {
            may_be_unsafe: UNSAFE_DIRECTORIES.iter().any(|name| path.starts_with(name)),
            lines: text.lines().count() - TestLines::of(&syntax).count(),
            longest_function: None,
            faults: Vec::new(),
        };
        inspection.visit_file(&syntax);
        inspection.file(path, text);
        inspection
    }

    fn file(&mut self, path: &Path, text: &str) {
        if self.lines > MAX_FILE_LINES && !is_test_file(path) {
            self.faults
                .push(format!("{} lines without tests", self.lines));
        }
        if !text.starts_with("//!") {
            self.faults
                .push("does not begin with //! and what it owns".into());
        }
        let is_refused = |name: &&str| path.file_stem().is_some_and(|stem| stem == *name);
        if REFUSED_FILES.iter().any(is_refused) {
            self.faults.push("its name has no meaning".into());
        }
    }

    fn function(&mut self, name: &syn::Ident, span: proc_macro2::Span) {
        let lines = span.end().line - span.start().line + 1;
        if lines > MAX_FUNCTION_LINES {
            self.faults
                .push(format!("function {name} has {lines} lines"));
        }
        let longest = self.longest_function.as_ref();
        if longest.is_none_or(|longest| longest.lines < lines) {
            let name = name.to_string();
            self.longest_function = Some(Function { name, lines });
        }
    }

    fn type_name(&mut self, name: &syn::Ident) {
        let text = name.to_string();
        if REFUSED_SUFFIXES.iter().any(|suffix| text.ends_with(suffix)) {
            self.faults
                .push(format!("type {text} ends in a word without meaning"));
        }
    }

    fn unsafe_code(&mut self, span: proc_macro2::Span) {
        if !self.may_be_unsafe {
            self.faults
                .push(format!("unsafe code in line {}", span.start().line));
        }
    }
}

impl<'ast> Visit<'ast> for Inspection {
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
fn an_inspection_finds_what_is_wrong() {
    let long = "    let _ = 1;\n".repeat(MAX_FUNCTION_LINES);
    let text = format!("fn f() {{\n{long}}}\nstruct PathHelper;\nfn g() {{ unsafe {{ h() }} }}\n");
    let inspection = Inspection::of(Path::new("runtime/src/utils.rs"), &text);
    assert_eq!(inspection.faults.len(), 5, "{:?}", inspection.faults);
    let longest = inspection.longest_function.unwrap();
    assert_eq!((longest.name.as_str(), longest.lines), ("f", 82));
    let fine = "//! Owns it.\n#[cfg(test)]\nmod tests {\n    use super::*;\n}\n";
    let inspection = Inspection::of(Path::new("a.rs"), fine);
    assert!(inspection.faults.is_empty());
    assert_eq!(inspection.lines, 1);
}
