//! What of the host a sandbox sees.
//!
//! Owns the lists: system directories are shown, and everything that is not on a list is
//! not. Of what is shown, files that only some users of the host may read are hidden.
//! Reads directories; mounts nothing.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::request::Request;
use crate::host::mountinfo;
use crate::host::mountinfo::Mount;

/// Directories of the host's root that are shown.
const SHOWN: [&str; 12] = [
    "bin", "etc", "gnu", "lib", "lib32", "lib64", "libx32", "nix", "opt", "sbin", "usr", "var",
];
/// Of /var, what package managers read.
const SHOWN_OF_VAR: [&str; 1] = ["lib"];
const SHOWN_OF_VAR_LIB: [&str; 5] = ["apt", "dpkg", "pacman", "rpm", "apk"];
/// Where configuration lies, private files among it.
const SEARCHED: [(&str, usize); 2] = [("etc", 16), ("opt", 2)];
/// The most files that are looked at in one of these.
const MAX_SEARCHED: usize = 65_536;
/// Files of a home directory that let others act as its user.
const SECRETS: [&str; 22] = [
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube",
    ".docker",
    ".config/gcloud",
    ".config/gh",
    ".config/op",
    ".netrc",
    ".git-credentials",
    ".config/git/credentials",
    ".npmrc",
    ".pypirc",
    ".pgpass",
    ".my.cnf",
    ".password-store",
    ".local/share/keyrings",
    ".mozilla",
    ".config/google-chrome",
    ".cargo/credentials.toml",
    ".vault-token",
];
/// Permission of all users to read (inode(7)).
const OTHERS_READ: u32 = 0o004;
/// Permission of all users to enter a directory.
const OTHERS_ENTER: u32 = 0o001;

/// A directory of the host that is shown read-only, with holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    /// Where it is, and where it is seen.
    pub(super) source: PathBuf,
    /// Paths below it that are not there.
    pub(super) hidden: Vec<PathBuf>,
}

/// A directory or file that the caller has opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opened {
    /// Where it is, and where it is seen.
    pub(super) path: PathBuf,
    pub(super) is_writable: bool,
}

/// Where the root file system comes from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Root {
    /// The host's, with holes.
    Host(Layer),
    /// An empty one with these symbolic links, by name and target: in a user namespace the
    /// kernel separates no directory from what is mounted in it (mount_namespaces(7)), so
    /// that of the host's root only directories can be shown, as they are. There is less
    /// to hide: an ordinary user can't read what others may not.
    Empty(Vec<(PathBuf, PathBuf)>),
}

/// Everything that is seen.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HostView {
    /// The root.
    pub(super) root: Root,
    /// File systems of the host that lie in what is shown of the root.
    pub(super) further: Vec<Layer>,
    /// Directories of the system that are shown as they are.
    pub(super) system: Vec<PathBuf>,
    /// What the caller opens, outer before inner.
    pub(super) opened: Vec<Opened>,
    /// Secrets in what is opened, which are covered.
    pub(super) covered: Vec<PathBuf>,
    /// Where the command begins.
    pub(super) working_directory: PathBuf,
    /// What the caller should know.
    pub(super) remarks: Vec<String>,
}

impl HostView {
    pub(super) fn of(request: &Request) -> Result<Self, Error> {
        let mut opened = opened(request)?;
        let mut remarks = Vec::new();
        let here = &request.working_directory;
        let own_home = request.own_home();
        let is_in_home = own_home.is_some_and(|home| here.starts_with(home));
        let is_there = is_shown(here) && !is_in_home;
        if is_there || opened.iter().any(|open| here.starts_with(&open.path)) {
            // Nothing more is to be shown.
        } else if SECRETS
            .iter()
            .any(|name| here.starts_with(request.home.join(name)))
        {
            remarks.push(format!(
                "{} holds secrets, and is not shown inside; `--ro .` shows it",
                here.display()
            ));
        } else if request.home.starts_with(here) {
            remarks.push(format!(
                "{} holds your home directory, and is not shown inside; `--ro .` or `--rw .` shows it",
                here.display()
            ));
        } else {
            opened.push(Opened {
                path: here.clone(),
                is_writable: false,
            });
        }
        opened.sort_by_key(|open| open.path.components().count());
        let mut covered = secrets(&opened, request);
        // A home directory may lie among the system's.
        let home = own_home.filter(|home| is_shown(home));
        let top = Path::new("/");
        let mut system = Vec::new();
        let (root, further) = if request.in_user_namespace {
            system.extend(system_directories());
            covered.splice(0..0, home.map(Path::to_owned));
            (Root::Empty(links_of_root()?), Vec::new())
        } else {
            let mounts = mountinfo::read().map_err(Error::step("read the mounts of", top))?;
            let host = Layer {
                source: top.to_owned(),
                hidden: hidden_below(top, home)?,
            };
            (Root::Host(host), further(&mounts, home)?)
        };
        Ok(Self {
            root,
            further,
            system,
            opened,
            covered,
            working_directory: here.clone(),
            remarks,
        })
    }
}

fn opened(request: &Request) -> Result<Vec<Opened>, Error> {
    let of = |option: &'static str, paths: &[PathBuf], is_writable: bool| {
        let opened = paths.iter().map(move |path| {
            let found = path.canonicalize().map_err(|source| Error::Open {
                option,
                path: path.clone(),
                source,
            })?;
            if found == Path::new("/") {
                let path = path.clone();
                return Err(Error::Root { option, path });
            }
            Ok(Opened {
                path: found,
                is_writable,
            })
        });
        opened.collect::<Result<Vec<_>, _>>()
    };
    let mut all = of("--ro", &request.readable, false)?;
    let writable = of("--rw", &request.writable, true)?;
    all.retain(|open| writable.iter().all(|other| other.path != open.path));
    all.extend(writable);
    Ok(all)
}

/// The directories of the system that are there.
fn system_directories() -> impl Iterator<Item = PathBuf> {
    let of_root = SHOWN.iter().filter(|name| **name != "var");
    let of_root = of_root.map(|name| Path::new("/").join(name));
    let of_var = SHOWN_OF_VAR_LIB.iter();
    let all = of_root.chain(of_var.map(|name| Path::new("/var/lib").join(name)));
    let is_directory = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|file| file.is_dir());
    all.filter(is_directory)
}

/// Links such as /bin, which lead to system directories.
fn links_of_root() -> Result<Vec<(PathBuf, PathBuf)>, Error> {
    let shown = SHOWN.iter().map(|name| Path::new("/").join(name));
    let links = shown.filter(|path| path.is_symlink());
    let pair = |path: PathBuf| {
        let target = fs::read_link(&path).map_err(Error::step("read link", &path))?;
        let name = path.strip_prefix("/").unwrap_or(&path).to_owned();
        Ok((name, target))
    };
    links.map(pair).collect()
}

/// Returns whether the system directories that are shown hold `path`.
fn is_shown(path: &Path) -> bool {
    let Ok(inside) = path.strip_prefix("/") else {
        return false;
    };
    let mut names = inside.components().map(|name| name.as_os_str());
    let Some(first) = names.next() else {
        return true;
    };
    SHOWN.iter().any(|shown| first == *shown) && first != "var"
}

/// Secrets that lie in what is opened, unless the caller opens them, too: of what is
/// opened itself, of the caller's home directory, and of those beside it.
fn secrets(opened: &[Opened], request: &Request) -> Vec<PathBuf> {
    let beside = request
        .home
        .parent()
        .into_iter()
        .chain([Path::new("/home")]);
    // One that can't be listed can't be shown either.
    let beside = beside.flat_map(|all| {
        let names = names_in(all).unwrap_or_default();
        names.into_iter().map(move |name| all.join(name))
    });
    let homes = opened.iter().map(|open| open.path.clone());
    let homes = homes.chain([request.home.clone()]).chain(beside);
    let all = homes.flat_map(|home| SECRETS.map(|name| home.join(name)));
    let is_inside = |path: &PathBuf| opened.iter().any(|open| path.starts_with(&open.path));
    let is_asked_for = |path: &PathBuf| opened.iter().any(|open| open.path == *path);
    let mut found: Vec<PathBuf> = all
        .filter(|path| is_inside(path) && !is_asked_for(path))
        .filter(|path| fs::symlink_metadata(path).is_ok())
        .collect();
    found.sort();
    found.dedup();
    found
}

/// What is not shown of the file system whose top is `top`, by paths below it; `home` is a
/// home directory that may lie there.
fn hidden_below(top: &Path, home: Option<&Path>) -> Result<Vec<PathBuf>, Error> {
    let mut hidden = Vec::new();
    let lists: [(&str, &[&str]); 3] = [
        ("/", &SHOWN),
        ("/var", &SHOWN_OF_VAR),
        ("/var/lib", &SHOWN_OF_VAR_LIB),
    ];
    for (directory, shown) in lists {
        let directory = Path::new(directory);
        let Ok(inside) = directory.strip_prefix(top) else {
            continue;
        };
        let is_hidden = |name: &PathBuf| shown.iter().all(|shown| name != Path::new(shown));
        let names = names_in(directory)?;
        hidden.extend(
            names
                .into_iter()
                .filter(is_hidden)
                .map(|name| inside.join(name)),
        );
    }
    for (directory, depth) in SEARCHED {
        let directory = Path::new("/").join(directory);
        let holder = if top.starts_with(&directory) {
            top
        } else {
            &directory
        };
        if holder.starts_with(top) {
            let mut search = Search::new(top, holder);
            search.directory(holder, depth)?;
            hidden.append(&mut search.found);
        }
    }
    let home = home.and_then(|home| home.strip_prefix(top).ok());
    let home = home.filter(|home| !home.as_os_str().is_empty());
    if let Some(home) = home.filter(|home| !hidden.iter().any(|path| home.starts_with(path))) {
        hidden.push(home.to_owned());
    }
    Ok(hidden)
}

/// Names of the entries of a directory; of none, if there is no such directory.
fn names_in(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let listed = fs::read_dir(directory).and_then(|entries| {
        let names = entries.map(|entry| Ok(PathBuf::from(entry?.file_name())));
        names.collect::<io::Result<Vec<_>>>()
    });
    match listed {
        Err(err)
            if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&err.kind()) =>
        {
            Ok(Vec::new())
        }
        listed => listed.map_err(Error::step("list", directory)),
    }
}

/// A walk over one file system that finds what not all users may read.
struct Search<'a> {
    top: &'a Path,
    begin: &'a Path,
    device: Option<u64>,
    seen: usize,
    found: Vec<PathBuf>,
}

impl<'a> Search<'a> {
    fn new(top: &'a Path, begin: &'a Path) -> Self {
        Self {
            top,
            begin,
            device: fs::symlink_metadata(begin).ok().map(|top| top.dev()),
            seen: 0,
            found: Vec::new(),
        }
    }

    fn directory(&mut self, directory: &Path, depth: usize) -> Result<(), Error> {
        for name in names_in(directory)? {
            self.seen += 1;
            if self.seen > MAX_SEARCHED {
                return Err(Error::TooMany {
                    path: self.begin.to_owned(),
                    max: MAX_SEARCHED,
                });
            }
            self.entry(&directory.join(name), depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, depth: usize) -> Result<(), Error> {
        let Ok(status) = fs::symlink_metadata(path) else {
            // Gone meanwhile.
            return Ok(());
        };
        if status.is_symlink() || Some(status.dev()) != self.device {
            return Ok(());
        }
        if !all_may_read(&status) {
            self.found
                .extend(path.strip_prefix(self.top).map(Path::to_owned));
        } else if status.is_dir() && depth > 1 {
            self.directory(path, depth - 1)?;
        }
        Ok(())
    }
}

/// Returns whether `directory`, or one that it lies in, is one of those that only some
/// users may look into.
fn is_private(directory: &Path) -> bool {
    directory.ancestors().any(|directory| {
        let status = fs::symlink_metadata(directory);
        status.map_or(true, |status| !all_may_read(&status))
    })
}

/// Returns whether all users may read a file, or look into a directory.
fn all_may_read(status: &Metadata) -> bool {
    let needed = if status.is_dir() {
        OTHERS_READ | OTHERS_ENTER
    } else {
        OTHERS_READ
    };
    status.mode() & needed == needed
}

/// File systems in what is shown of the root, such as a /usr of its own.
fn further(mounts: &[Mount], home: Option<&Path>) -> Result<Vec<Layer>, Error> {
    let mut layers: Vec<Layer> = Vec::new();
    for mount in mounts.iter().filter(|mount| !mount.is_of_kernel()) {
        let point = &mount.point;
        if point == Path::new("/") || !is_shown(point) || !point.is_dir() {
            continue;
        }
        if home.is_some_and(|home| point.starts_with(home)) || is_private(point) {
            continue;
        }
        // A later mount covers an earlier one, and everything in it.
        layers.retain(|layer| !layer.source.starts_with(point));
        layers.push(Layer {
            source: point.clone(),
            hidden: hidden_below(point, home)?,
        });
    }
    Ok(layers)
}

#[cfg(test)]
#[path = "host_view_test.rs"]
mod tests;
