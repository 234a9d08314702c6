//! What is written in one module: definitions, imports, and paths in its code.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use crate::tree;

pub(crate) type Segments = Vec<String>;

/// One name that a `use` brings into a module.
pub(crate) struct Import {
    pub(crate) segments: Segments,
    /// `None` with a glob.
    pub(crate) name: Option<String>,
    pub(crate) is_public: bool,
}

/// What is written in a module, without its modules.
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) definitions: Vec<String>,
    pub(crate) imports: Vec<Import>,
    /// Paths beside those of imports.
    pub(crate) mentions: Vec<Segments>,
}

impl Contents {
    pub(crate) fn of(items: &[syn::Item]) -> Self {
        let mut contents = Self::default();
        for item in items {
            if !tree::is_for_tests(tree::attributes(item)) {
                contents.definitions.extend(name_of(item));
            }
            contents.visit_item(item);
        }
        contents
    }

    fn use_tree(&mut self, before: &[String], tree: &syn::UseTree, is_public: bool) {
        let mut segments = before.to_vec();
        let name = match tree {
            syn::UseTree::Path(path) => {
                segments.push(path.ident.to_string());
                return self.use_tree(&segments, &path.tree, is_public);
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.use_tree(before, tree, is_public);
                }
                return;
            }
            syn::UseTree::Name(name) => {
                let name = name.ident.to_string();
                if name == "self" {
                    segments.last().cloned()
                } else {
                    segments.push(name.clone());
                    Some(name)
                }
            }
            syn::UseTree::Rename(rename) => {
                if rename.ident != "self" {
                    segments.push(rename.ident.to_string());
                }
                Some(rename.rename.to_string())
            }
            syn::UseTree::Glob(_) => None,
        };
        self.imports.push(Import {
            segments,
            name,
            is_public,
        });
    }

    /// Returns whatever looks like a path in the tokens of a macro or an attribute.
    fn paths(tokens: TokenStream) -> Vec<Segments> {
        let mut paths = vec![Segments::new()];
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(mark) if mark.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Ident(word) if colons == 2 => {
                    paths.last_mut().unwrap().push(word.to_string());
                }
                TokenTree::Ident(word) => paths.push(vec![word.to_string()]),
                TokenTree::Group(group) => {
                    paths.extend(Self::paths(group.stream()));
                    paths.push(Segments::new());
                }
                _ => paths.push(Segments::new()),
            }
            colons = 0;
        }
        paths.retain(|path| !path.is_empty());
        paths
    }
}

impl<'ast> Visit<'ast> for Contents {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let is_module = matches!(item, syn::Item::Mod(_));
        if !is_module && !tree::is_for_tests(tree::attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !tree::is_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_public = !matches!(item.vis, syn::Visibility::Inherited);
        self.use_tree(&[], &item.tree, is_public);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = path.segments.iter().map(|part| part.ident.to_string());
        self.mentions.push(names.collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.mentions.extend(Self::paths(call.tokens.clone()));
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            // A word alone is the attribute's own, as `default` of serde.
            let paths = Self::paths(list.tokens.clone()).into_iter();
            self.mentions.extend(paths.filter(|path| path.len() > 1));
        }
    }

    // `pub(in crate::a)` uses nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}

fn name_of(item: &syn::Item) -> Option<String> {
    let name = match item {
        syn::Item::Const(item) => &item.ident,
        syn::Item::Enum(item) => &item.ident,
        syn::Item::Fn(item) => &item.sig.ident,
        syn::Item::Macro(item) => item.ident.as_ref()?,
        syn::Item::Static(item) => &item.ident,
        syn::Item::Struct(item) => &item.ident,
        syn::Item::Trait(item) => &item.ident,
        syn::Item::Type(item) => &item.ident,
        syn::Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}
