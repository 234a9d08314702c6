//! Modules of production code and what a path in one of them names.
//!
//! A path resolves as the compiler does it, to the module that defines an item,
//! however many `pub use` are between. What a macro or a build script makes counts
//! as an item of the module in which its path leaves what is written.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use crate::contents::{Contents, Import};
use crate::tree::{self, Package, Source};

/// More re-exports in a row than any tree has: what comes back to itself ends here.
const MAX_DEPTH: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    Module(usize),
    /// An item that this module defines.
    Item(usize),
}

#[derive(Default)]
pub(crate) struct Module {
    pub(crate) file: PathBuf,
    parent: Option<usize>,
    root: usize,
    children: HashMap<String, usize>,
    pub(crate) contents: Contents,
}

#[derive(Default)]
pub(crate) struct Modules {
    pub(crate) all: Vec<Module>,
    /// Libraries by the name that paths have for them.
    libraries: HashMap<String, usize>,
}

impl Modules {
    pub(crate) fn of(packages: &[Package], sources: &BTreeMap<PathBuf, Source>) -> Self {
        let mut modules = Self::default();
        for package in packages {
            modules.package(package, sources);
        }
        modules
    }

    fn package(&mut self, package: &Package, sources: &BTreeMap<PathBuf, Source>) {
        for root in &package.roots {
            let module = self.file(root, None, sources);
            if root.file_stem().is_some_and(|stem| stem == "lib") {
                let name = package.name.replace('-', "_");
                self.libraries.insert(name, module);
            }
        }
    }

    fn file(
        &mut self,
        path: &Path,
        parent: Option<usize>,
        sources: &BTreeMap<PathBuf, Source>,
    ) -> usize {
        let is_parent = |stem| parent.is_none() || stem == "mod";
        let directory = match path.file_stem() {
            Some(stem) if is_parent(stem) => path.parent().unwrap().to_owned(),
            _ => path.with_extension(""),
        };
        let items = &sources[path].syntax.items;
        let place = Place { path, directory };
        self.module(&place, parent, items, sources)
    }

    fn module(
        &mut self,
        place: &Place<'_>,
        parent: Option<usize>,
        items: &[syn::Item],
        sources: &BTreeMap<PathBuf, Source>,
    ) -> usize {
        let module = self.all.len();
        self.all.push(Module {
            file: place.path.to_owned(),
            parent,
            root: parent.map_or(module, |parent| self.all[parent].root),
            contents: Contents::of(items),
            ..Module::default()
        });
        for item in items {
            let syn::Item::Mod(item) = item else { continue };
            if tree::is_for_tests(&item.attrs) {
                continue;
            }
            let name = item.ident.to_string();
            let child = match &item.content {
                Some((_, items)) => {
                    let place = place.inside(&name);
                    Some(self.module(&place, Some(module), items, sources))
                }
                None => place
                    .files_of(&name)
                    .into_iter()
                    .find(|path| sources.contains_key(path))
                    .map(|path| self.file(&path, Some(module), sources)),
            };
            if let Some(child) = child {
                self.all[module].children.insert(name, child);
            }
        }
        module
    }

    /// Returns what `segments` name in `module`; nothing if it is outside the tree.
    pub(crate) fn resolve(&self, module: usize, segments: &[String]) -> Vec<Target> {
        let found = self.follow(module, segments, 0);
        let is_item = |target: &Target| matches!(target, Target::Item(_));
        if found.iter().any(is_item) {
            return found.into_iter().filter(is_item).collect();
        }
        found
    }

    pub(crate) fn is_child(&self, module: usize, name: &str) -> bool {
        self.all[module].children.contains_key(name)
    }

    pub(crate) fn is_below(&self, module: usize, ancestor: usize) -> bool {
        let mut above = Some(module);
        while let Some(module) = above {
            if module == ancestor {
                return true;
            }
            above = self.all[module].parent;
        }
        false
    }

    fn follow(&self, module: usize, segments: &[String], depth: usize) -> Vec<Target> {
        let Some((first, mut rest)) = segments.split_first() else {
            return Vec::new();
        };
        if depth > MAX_DEPTH {
            return Vec::new();
        }
        let mut targets = match first.as_str() {
            "crate" => vec![Target::Module(self.all[module].root)],
            "self" => vec![Target::Module(module)],
            "super" => {
                let parent = self.all[module].parent;
                parent.map(Target::Module).into_iter().collect()
            }
            name => {
                let found = self.lookup(module, name, rest.is_empty(), depth);
                let library = || self.libraries.get(name).copied().map(Target::Module);
                found.unwrap_or_else(|| library().into_iter().collect())
            }
        };
        while let Some((segment, further)) = rest.split_first() {
            rest = further;
            let next = |target: Target| self.step(target, segment, rest.is_empty(), depth);
            targets = targets.into_iter().flat_map(next).collect();
        }
        targets
    }

    fn step(&self, target: Target, segment: &str, is_last: bool, depth: usize) -> Vec<Target> {
        match target {
            // A variant, a function of a type: they stand where the type does.
            Target::Item(_) => vec![target],
            Target::Module(module) => match segment {
                "super" => {
                    let parent = self.all[module].parent;
                    parent.map(Target::Module).into_iter().collect()
                }
                "self" => vec![target],
                name => self
                    .lookup(module, name, is_last, depth)
                    .unwrap_or_else(|| vec![Target::Item(module)]),
            },
        }
    }

    /// Returns what a name stands for, an empty list if that is outside the tree.
    fn lookup(
        &self,
        module: usize,
        name: &str,
        is_last: bool,
        depth: usize,
    ) -> Option<Vec<Target>> {
        let scope = &self.all[module];
        let child = scope.children.get(name).copied().map(Target::Module);
        if let (Some(child), false) = (child, is_last) {
            return Some(vec![child]);
        }
        let mut found: Vec<Target> = child.into_iter().collect();
        if scope.contents.definitions.iter().any(|other| other == name) {
            found.push(Target::Item(module));
        }
        let is_named = |import: &&Import| import.name.as_deref() == Some(name);
        let mut is_known = !found.is_empty();
        for import in scope.contents.imports.iter().filter(is_named) {
            is_known = true;
            let targets = self.follow(module, &import.segments, depth + 1);
            if targets.is_empty() && import.is_public {
                // From outside the tree, and given on from here.
                found.push(Target::Item(module));
            }
            found.extend(targets);
        }
        if is_known {
            return Some(found);
        }
        self.lookup_in_globs(module, name, is_last, depth)
    }

    fn lookup_in_globs(
        &self,
        module: usize,
        name: &str,
        is_last: bool,
        depth: usize,
    ) -> Option<Vec<Target>> {
        if depth > MAX_DEPTH {
            return None;
        }
        let imports = self.all[module].contents.imports.iter();
        imports
            .filter(|import| import.name.is_none())
            .flat_map(|glob| self.follow(module, &glob.segments, depth + 1))
            .find_map(|target| match target {
                Target::Module(other) if other != module => {
                    self.lookup(other, name, is_last, depth + 1)
                }
                _ => None,
            })
    }
}

/// Where a module is written: its file, and the directory for files of its children.
struct Place<'p> {
    path: &'p Path,
    directory: PathBuf,
}

impl Place<'_> {
    fn inside(&self, name: &str) -> Place<'_> {
        Place {
            path: self.path,
            directory: self.directory.join(name),
        }
    }

    fn files_of(&self, name: &str) -> [PathBuf; 2] {
        [
            self.directory.join(format!("{name}.rs")),
            self.directory.join(name).join("mod.rs"),
        ]
    }
}
