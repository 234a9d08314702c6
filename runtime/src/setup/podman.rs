//! Podman's containers.conf: a file of our own beside it, so nothing of the
//! administrator's is touched.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use toml_edit::{Array, DocumentMut, Item, Table, value};

use crate::setup::{Aim, Programs, RUNTIME, at};

/// Podman's own lists (containers.conf(5)), which an entry replaces.
const SPEAK_JSON: [&str; 8] = [
    "crun", "crun-vm", "runc", "kata", "runsc", "youki", "krun", "ocijail",
];
const USE_KVM: [&str; 5] = ["kata", "kata-runtime", "kata-qemu", "kata-fc", "krun"];

/// The text of the file.
pub(super) fn text(aim: Aim, programs: &Programs) -> Option<String> {
    if aim == Aim::Removed {
        return None;
    }
    let mut document = DocumentMut::new();
    let mut engine = Table::new();
    engine["runtime_supports_json"] = value(with_ours(&SPEAK_JSON));
    // SELinux gives such containers the type that may use KVM.
    engine["runtime_supports_kvm"] = value(with_ours(&USE_KVM));
    let mut runtimes = Table::new();
    let command = programs.command.display().to_string();
    runtimes[RUNTIME] = value(Array::from_iter([command]));
    engine["runtimes"] = Item::Table(runtimes);
    document["engine"] = Item::Table(engine);
    Some(document.to_string())
}

/// The first program of the entry: Podman takes the first that exists.
pub(super) fn registered(text: &str) -> Result<Option<String>, String> {
    let document: DocumentMut = text
        .parse()
        .map_err(|err: toml_edit::TomlError| err.message().to_owned())?;
    let entry = at(&document, &["engine", "runtimes", RUNTIME]);
    let first = entry
        .and_then(Item::as_array)
        .and_then(|array| array.get(0));
    Ok(first
        .and_then(|program| program.as_str())
        .map(str::to_owned))
}

/// Whether a file of containers.conf's form makes caisson the default: Podman doesn't
/// start containers with one that it doesn't know.
pub(super) fn is_default(text: &str) -> bool {
    let document: Result<DocumentMut, _> = text.parse();
    document.is_ok_and(|document| {
        let engine = document.get("engine").and_then(Item::as_table_like);
        let runtime = engine.and_then(|engine| engine.get("runtime"));
        runtime.and_then(Item::as_str) == Some(RUNTIME)
    })
}

/// The files that Podman reads beside `file`: the others of its directory, and
/// containers.conf above.
pub(super) fn beside(file: &Path) -> Vec<PathBuf> {
    let Some(folder) = file.parent() else {
        return Vec::new();
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path != file && path.extension() == Some(OsStr::new("conf")))
        .collect();
    files.sort();
    files.extend(folder.parent().map(|above| above.join("containers.conf")));
    files
}

fn with_ours(theirs: &[&'static str]) -> Array {
    theirs.iter().copied().chain([RUNTIME]).collect()
}
