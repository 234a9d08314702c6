//! Names of production code: types that share theirs, words that name no thing of
//! the field, and parameters without a name of their own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

use crate::tree::{Source, attributes, is_for_tests};

/// Each module that can fail has one of this name.
const SHARED: &str = "Error";
/// Refused as a part of a name, in any case.
const REFUSED_WORDS: &[&str] = &[
    "desk",
    "doing",
    "insistence",
    "patience",
    "habitat",
    "birth",
    "beginnings",
    "surrounding",
    "surroundings",
    "wish",
    "wishes",
    "errand",
    "folder",
    "folders",
    "tell",
    "tells",
    "say",
    "says",
    "said",
    "hurry",
];
/// Refused in this order, whatever stands between: `put_devices_away`.
const REFUSED_PHRASES: &[[&str; 2]] = &[
    ["carry", "out"],
    ["hand", "over"],
    ["put", "away"],
    ["stand", "in"],
];
/// Refused only as a whole name, and only of this kind.
const REFUSED_TYPE: &str = "Word";
const REFUSED_MODULE: &str = "later";

#[derive(Default)]
pub(crate) struct Names {
    /// Types of each package, by name, with how often there is one.
    types: BTreeMap<String, BTreeMap<String, usize>>,
    /// `file:function`, as are the two below.
    pub(crate) tuple_patterns: Vec<String>,
    pub(crate) tuple_types: Vec<String>,
    pub(crate) refused: Vec<String>,
    package: String,
    file: PathBuf,
}

/// Of the types of one package, or of all.
#[derive(Default, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sharing {
    pub(crate) types: usize,
    /// Those whose name another type of the same package has.
    pub(crate) sharing: usize,
}

impl Sharing {
    fn add(self, name: &str, count: usize) -> Self {
        if name == SHARED {
            return self;
        }
        Self {
            types: self.types + count,
            sharing: self.sharing + if count > 1 { count } else { 0 },
        }
    }

    pub(crate) fn percent(self) -> usize {
        (100 * self.sharing + self.types / 2)
            .checked_div(self.types)
            .unwrap_or(0)
    }
}

impl Names {
    pub(crate) fn of_tree(sources: &BTreeMap<PathBuf, Source>) -> Self {
        let mut names = Self::default();
        for (path, source) in sources {
            names.add(&source.package, path, &source.syntax);
        }
        names
    }

    fn add(&mut self, package: &str, path: &Path, syntax: &syn::File) {
        self.package = package.to_owned();
        self.file = path.to_owned();
        self.visit_file(syntax);
    }

    pub(crate) fn sharing(&self) -> BTreeMap<&str, Sharing> {
        let of_package = |names: &BTreeMap<String, usize>| {
            let none = Sharing::default();
            names
                .iter()
                .fold(none, |sum, (name, count)| sum.add(name, *count))
        };
        self.types
            .iter()
            .map(|(package, names)| (package.as_str(), of_package(names)))
            .collect()
    }

    /// Returns the names that more than one type of a package has, with the package.
    pub(crate) fn shared(&self) -> Vec<String> {
        let mut shared = Vec::new();
        for (package, names) in &self.types {
            let names = names
                .iter()
                .filter(|(name, count)| **count > 1 && *name != SHARED);
            shared.extend(names.map(|(name, count)| format!("{package}: {name} ({count})")));
        }
        shared
    }

    fn place(&self, name: &syn::Ident) -> String {
        format!("{}:{name}", self.file.display())
    }

    fn type_name(&mut self, name: &syn::Ident) {
        let text = name.to_string();
        if text == REFUSED_TYPE {
            self.refused.push(self.place(name));
        }
        self.name(name);
        let names = self.types.entry(self.package.clone()).or_default();
        *names.entry(text).or_default() += 1;
    }

    fn name(&mut self, name: &syn::Ident) {
        if is_refused(&name.to_string()) {
            self.refused.push(self.place(name));
        }
    }

    fn function(&mut self, signature: &syn::Signature) {
        self.name(&signature.ident);
        for input in &signature.inputs {
            let syn::FnArg::Typed(input) = input else {
                continue;
            };
            if is_tuple_pattern(&input.pat) {
                self.tuple_patterns.push(self.place(&signature.ident));
            }
            if is_tuple(&input.ty) {
                self.tuple_types.push(self.place(&signature.ident));
            }
        }
    }
}

fn is_tuple_pattern(pattern: &syn::Pat) -> bool {
    match pattern {
        syn::Pat::Tuple(_) => true,
        syn::Pat::Reference(inner) => is_tuple_pattern(&inner.pat),
        syn::Pat::Paren(inner) => is_tuple_pattern(&inner.pat),
        _ => false,
    }
}

fn is_tuple(kind: &syn::Type) -> bool {
    match kind {
        syn::Type::Tuple(tuple) => !tuple.elems.is_empty(),
        syn::Type::Reference(inner) => is_tuple(&inner.elem),
        syn::Type::Paren(inner) => is_tuple(&inner.elem),
        _ => false,
    }
}

fn is_refused(name: &str) -> bool {
    let words = words(name);
    let place = |wanted: &str| words.iter().position(|word| word == wanted);
    let is_phrase = |[first, last]: &[&str; 2]| match (place(first), place(last)) {
        (Some(first), Some(last)) => first < last,
        _ => false,
    };
    words
        .iter()
        .any(|word| REFUSED_WORDS.contains(&word.as_str()))
        || REFUSED_PHRASES.iter().any(is_phrase)
}

/// Words of a name in CamelCase or snake_case, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for letter in name.chars() {
        if letter == '_' || (letter.is_uppercase() && was_lower) {
            words.push(String::new());
        }
        was_lower = letter.is_lowercase() || letter.is_numeric();
        if letter != '_' {
            words.last_mut().unwrap().extend(letter.to_lowercase());
        }
    }
    words
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if module.ident == REFUSED_MODULE {
            self.refused.push(self.place(&module.ident));
        }
        self.name(&module.ident);
        visit::visit_item_mod(self, module);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        self.function(signature);
        visit::visit_signature(self, signature);
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

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.type_name(&item.ident);
        visit::visit_item_type(self, item);
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        self.name(&variant.ident);
        visit::visit_variant(self, variant);
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if let Some(name) = &field.ident {
            self.name(name);
        }
        visit::visit_field(self, field);
    }
}

#[cfg(test)]
fn names_of(text: &str) -> Names {
    let mut names = Names::default();
    let syntax = syn::parse_file(text).unwrap();
    names.add("one", Path::new("a.rs"), &syntax);
    names
}

#[test]
fn types_of_one_package_share_names_but_errors() {
    let mut names = names_of(
        "struct A; enum Error { B } mod m { type A = u8; trait C { type A; } struct Error; }
         #[cfg(test)] mod tests { struct C; }",
    );
    let expected = Sharing {
        types: 3,
        sharing: 2,
    };
    assert_eq!(names.sharing()["one"], expected);
    assert_eq!(expected.percent(), 67);
    assert_eq!(names.shared(), ["one: A (2)"]);
    let other = syn::parse_file("struct A;").unwrap();
    names.add("two", Path::new("b.rs"), &other);
    assert_eq!(names.sharing()["two"].sharing, 0);
}

#[test]
fn tuples_as_parameters_are_found() {
    let names = names_of(
        "fn f((a, b): Pair, c: &(u8, u8), _: ()) {}
         trait T { fn g(&(x, y): &(u8, u8)); }
         fn h(pair: [u8; 2]) { let i = |(a, b)| a; }",
    );
    assert_eq!(names.tuple_patterns, ["a.rs:f", "a.rs:g"]);
    assert_eq!(names.tuple_types, ["a.rs:f", "a.rs:g"]);
}

#[test]
fn refused_words_are_found_as_parts_of_names() {
    let names = names_of(
        "struct HostDesk { state_folder: u8 } enum Kind { Wishes } mod later {}
         fn put_devices_away() {} fn tell_poststop() {} struct Word; type StandIn = u8;",
    );
    let expected = [
        "HostDesk",
        "state_folder",
        "Wishes",
        "later",
        "put_devices_away",
        "tell_poststop",
        "Word",
        "StandIn",
    ];
    assert_eq!(names.refused, expected.map(|name| format!("a.rs:{name}")));
}

#[test]
fn names_that_only_hold_such_letters_are_fine() {
    let names = names_of(
        "struct Password { keyword: u8 } fn essay() {} fn in_stand() {} mod collateral {}
         fn f(folder: u8) { let said = 1; } #[cfg(test)] mod tests { fn tell() {} }",
    );
    assert_eq!(names.refused, Vec::<String>::new());
}
