//! QEMU as a helper in jail: what it sees of the host's files, and its start.
//!
//! It is a program of the distribution, linked with libraries, so its root can't be
//! empty: it holds the program, its loader, the directory of libraries that the loader lies
//! in, and its firmware, each read-only, and nothing that belongs to anybody. A QEMU that
//! lies in a tree with a loader of its own, as unpacked packages do, sees that tree's in
//! place of the host's. Nothing is executed to find this out.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use caisson_jail::Kind;
use caisson_jail::detached::{Access, Tree, detach};
use caisson_jail::program::{Shown, Spec};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

use crate::config::installation::Installation;
use crate::process::program::{Program, Running};
use crate::vm::error::Error as VmError;
use crate::vm::hypervisor_error::Error;

/// Descriptors for vCPUs, devices, queues and threads.
const OPEN_FILES: u64 = 1024;
/// Denied to all of its threads: old calls, other identities, other programs, and a place
/// before others.
const SECCOMP: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
/// Where firmware lies below the prefix of an installation.
const FIRMWARE: [&str; 3] = ["share/qemu", "share/seabios", "share/qboot"];
/// Longest path of a loader, which is that of the kernel.
const PATH_MAX: u64 = 4096;

/// What a QEMU program sees of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    /// The program's own path in its root, which is absolute.
    pub(crate) program: PathBuf,
    files: Vec<Seen>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    host: PathBuf,
    /// Absolute.
    inside: PathBuf,
    kind: Kind,
}

impl View {
    /// Finds out what `program` needs. Looks at files only.
    ///
    /// # Errors
    /// When it is no program that can be started in a jail.
    pub(crate) fn of(program: &Path) -> Result<Self, Error> {
        Self::found(program).map_err(|err| Error::Qemu {
            path: program.to_owned(),
            reason: err.to_string(),
        })
    }

    fn found(program: &Path) -> io::Result<Self> {
        let program = fs::canonicalize(program)?;
        let prefix = match program.parent().and_then(Path::parent) {
            Some(prefix) if prefix.parent().is_some() => prefix.to_owned(),
            _ => PathBuf::from("/usr"),
        };
        let interpreter = interpreter(&File::open(&program)?)?;
        let loader = interpreter
            .as_deref()
            .map(|path| Loader::find(path, &prefix))
            .transpose()?;
        let host = Path::new("/");
        let tree = loader.as_ref().map_or(host, |loader| &loader.tree);
        let mut view = Self {
            program: inside(tree, &program),
            files: Vec::new(),
        };
        for folder in loader.iter().flat_map(Loader::libraries) {
            view.show(tree, folder, Kind::Directory);
        }
        // Those of the system are the loader's.
        if inside(tree, &prefix) != Path::new("/usr") {
            for folder in ["lib64", "lib"] {
                view.show(tree, prefix.join(folder), Kind::Directory);
            }
        }
        for folder in FIRMWARE {
            view.show(tree, prefix.join(folder), Kind::Directory);
        }
        if let (Some(path), Some(loader)) = (interpreter, &loader) {
            view.add(Seen {
                host: loader.file.clone(),
                inside: path,
                kind: Kind::File,
            });
        }
        view.show(tree, program, Kind::File);
        Ok(view)
    }

    /// At its own place, if it is there.
    fn show(&mut self, tree: &Path, host: PathBuf, kind: Kind) {
        if host.exists() {
            let inside = inside(tree, &host);
            self.add(Seen { host, inside, kind });
        }
    }

    /// Unless it is seen with a directory already.
    fn add(&mut self, seen: Seen) {
        let is_seen = |earlier: &Seen| seen.inside.starts_with(&earlier.inside);
        if !self.files.iter().any(is_seen) {
            self.files.push(seen);
        }
    }
}

/// The path of what lies in `tree`, for whoever has that as root.
fn inside(tree: &Path, path: &Path) -> PathBuf {
    match path.strip_prefix(tree) {
        Ok(below) => Path::new("/").join(below),
        Err(_) => path.to_owned(),
    }
}

/// The dynamic loader of a program.
#[derive(Debug)]
struct Loader {
    /// The tree whose libraries are used.
    tree: PathBuf,
    /// Where it really lies on the host.
    file: PathBuf,
}

impl Loader {
    /// That of the tree which has `prefix` as its `/usr`, else that of the host.
    fn find(path: &Path, prefix: &Path) -> io::Result<Self> {
        let own = prefix.parent().filter(|_| prefix.ends_with("usr"));
        let host = Path::new("/");
        for tree in own.into_iter().chain([host]) {
            // A tree of unpacked packages lacks the links at its top.
            let below_usr = Path::new("/usr").join(path.strip_prefix("/").unwrap_or(path));
            let places = [path, &below_usr];
            if let Some(file) = places.iter().find_map(|place| resolve(tree, place).ok()) {
                let tree = tree.to_owned();
                return Ok(Self { tree, file });
            }
        }
        let text = format!("its loader {} is not there", path.display());
        Err(io::Error::new(io::ErrorKind::NotFound, text))
    }

    /// The directories of the distribution's libraries: where it lies itself, and where
    /// `/usr` is not merged with the root, that directory's other half.
    fn libraries(&self) -> Vec<PathBuf> {
        let Some(folder) = self.file.parent() else {
            return Vec::new();
        };
        let below_tree = inside(&self.tree, folder);
        let other = match below_tree.strip_prefix("/usr") {
            Ok(below) => self.tree.join(below),
            Err(_) => self
                .tree
                .join("usr")
                .join(below_tree.strip_prefix("/").unwrap_or(&below_tree)),
        };
        let is_another = fs::canonicalize(&other).is_ok_and(|other| other != folder);
        let other = is_another.then_some(other);
        [folder.to_owned()].into_iter().chain(other).collect()
    }
}

/// Where the file `path` of `tree` lies on the host; links are followed as if the tree
/// were the root.
fn resolve(tree: &Path, path: &Path) -> io::Result<PathBuf> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = openat(CWD, tree, flags | OFlags::DIRECTORY, Mode::empty())?;
    let file = openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&file);
    fs::read_link(format!("/proc/self/fd/{number}"))
}

/// The loader that an ELF program names (`PT_INTERP`, elf(5)); a static one names none.
fn interpreter(file: &File) -> io::Result<Option<PathBuf>> {
    const PT_INTERP: u32 = 3;
    /// ELF, 64 bits, little endian; and at offset 18 x86-64.
    const IDENT: &[u8] = b"\x7fELF\x02\x01";
    const X86_64: u16 = 62;
    let malformed = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
    let mut header = [0; 64];
    let read = file.read_exact_at(&mut header, 0);
    if read.is_err() || !header.starts_with(IDENT) || u16_at(&header, 18) != X86_64 {
        return Err(malformed(
            "not an x86-64 program: the program itself is needed, not a script that starts it",
        ));
    }
    let (table, size, count) = (
        u64_at(&header, 32),
        u16_at(&header, 54),
        u16_at(&header, 56),
    );
    for index in 0..count {
        let mut entry = [0; 56];
        let at = u64::from(index) * u64::from(size);
        file.read_exact_at(&mut entry, table.saturating_add(at))?;
        if u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]) != PT_INTERP {
            continue;
        }
        let (offset, len) = (u64_at(&entry, 8), u64_at(&entry, 32));
        let mut path = vec![0; usize::try_from(len.min(PATH_MAX)).unwrap_or_default()];
        file.read_exact_at(&mut path, offset)?;
        let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
        let path = std::str::from_utf8(path).unwrap_or_default();
        return if path.starts_with('/') && !path.contains("..") {
            Ok(Some(path.into()))
        } else {
            Err(malformed("its loader is no absolute path"))
        };
    }
    Ok(None)
}

fn u16_at<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |chunk| u16::from_le_bytes(*chunk))
}

fn u64_at<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

/// A QEMU about to be started in jail.
#[derive(Debug)]
pub(crate) struct Jailed {
    program: Program,
    view: View,
    descriptors: Vec<i32>,
}

impl Jailed {
    pub(crate) fn new(installation: &Installation, qemu: &Path) -> Result<Self, VmError> {
        let view = View::of(qemu)?;
        let name = qemu.file_name().unwrap_or_default().to_string_lossy();
        let program = Program::new(installation.helper("caisson-jail")?).called(&name);
        Ok(Self {
            program,
            view,
            descriptors: Vec::new(),
        })
    }

    /// Passes a descriptor, and returns its number in QEMU.
    pub(crate) fn pass(&mut self, descriptor: impl Into<std::os::fd::OwnedFd>) -> i32 {
        let number = self.program.pass(descriptor);
        self.descriptors.push(number);
        number
    }

    /// Starts it with these arguments and a seccomp filter of its own.
    pub(crate) fn spawn(mut self, mut arguments: Vec<String>) -> Result<Running, VmError> {
        arguments.extend(["-sandbox".into(), SECCOMP.into()]);
        let mut files = Vec::new();
        for seen in &self.view.files {
            let tree = detach(&seen.host, Tree::Recursive, Access::ReadOnly).map_err(|err| {
                VmError::Share {
                    path: seen.host.clone(),
                    source: err.into(),
                }
            })?;
            files.push(Shown {
                path: seen
                    .inside
                    .strip_prefix("/")
                    .unwrap_or(&seen.inside)
                    .to_owned(),
                kind: seen.kind,
                descriptor: self.program.pass(tree),
            });
        }
        self.program
            .spawn(&Spec {
                program: self.view.program,
                arguments,
                files,
                descriptors: self.descriptors,
                open_files: OPEN_FILES,
            })
            .map_err(Into::into)
    }
}

#[cfg(test)]
#[path = "qemu_test.rs"]
mod tests;
