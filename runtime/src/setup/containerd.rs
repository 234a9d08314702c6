//! containerd's config.toml: a runtime handler for Kubernetes, of the name that
//! a RuntimeClass refers to. `ctr` and nerdctl need no entry, only the shim on
//! PATH.

use toml_edit::{DocumentMut, Item, Table, value};

use crate::setup::{Aim, Programs, RUNTIME, at};

/// Names the shim: `containerd-shim-caisson-v2`.
const RUNTIME_TYPE: &str = "io.containerd.caisson.v2";
/// Where containerd looks for shims by itself, under systemd's PATH.
const STANDARD_FOLDERS: [&str; 4] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];

const RUNTIMES: &str = "runtimes";
/// Beside it: which one pods have that name none.
const DEFAULT: &str = "default_runtime_name";

/// The new text of the file, or none where nothing would be left in it.
pub(super) fn edit(before: &str, aim: Aim, programs: &Programs) -> Result<Option<String>, String> {
    let mut document: DocumentMut = before
        .parse()
        .map_err(|err: toml_edit::TomlError| err.message().to_owned())?;
    if document.is_empty() {
        if aim == Aim::Removed {
            return Ok(None);
        }
        // Versions 1.6 to 2.x of containerd read this one.
        document["version"] = value(2);
    }
    let plugin = plugin_of(&document)?;
    let path = ["plugins", plugin, "containerd", RUNTIMES];
    match aim {
        Aim::Entered => {
            let runtimes = descend(document.as_table_mut(), &path)?;
            let entry = runtimes.entry(RUNTIME).or_insert_with(table);
            let entry = entry.as_table_mut().ok_or_else(|| not_a_table(RUNTIME))?;
            entry["runtime_type"] = value(RUNTIME_TYPE);
            set_path(entry, programs);
        }
        Aim::Removed => {
            remove(document.as_table_mut(), &path);
            let only_the_version = document.iter().all(|(key, _)| key == "version");
            if only_the_version {
                return Ok(None);
            }
        }
    }
    Ok(Some(document.to_string()))
}

/// The shim of the entry: by its path, or by the name that containerd looks for.
pub(super) fn registered(text: &str) -> Result<Option<String>, String> {
    let document: DocumentMut = text
        .parse()
        .map_err(|err: toml_edit::TomlError| err.message().to_owned())?;
    if document.is_empty() {
        return Ok(None);
    }
    let plugin = plugin_of(&document)?;
    let path = ["plugins", plugin, "containerd", RUNTIMES, RUNTIME];
    Ok(at(&document, &path).map(|entry| {
        let path = entry.get("runtime_path").and_then(Item::as_str);
        path.unwrap_or(RUNTIME_TYPE).to_owned()
    }))
}

/// The section of the CRI plugin, which has another name in each version.
fn plugin_of(document: &DocumentMut) -> Result<&'static str, String> {
    match document.get("version").and_then(Item::as_integer) {
        Some(2) => Ok("io.containerd.grpc.v1.cri"),
        Some(3 | 4) => Ok("io.containerd.cri.v1.runtime"),
        Some(other) => Err(format!("version = {other} is not known: 2, 3 and 4 are")),
        None => Err("it has no `version`: write `containerd config default` into it".to_owned()),
    }
}

/// A shim outside of PATH is named.
fn set_path(entry: &mut Table, programs: &Programs) {
    let folder = programs.shim.parent();
    let is_found = STANDARD_FOLDERS
        .iter()
        .any(|standard| folder.is_some_and(|folder| folder.as_os_str() == *standard));
    if is_found {
        entry.remove("runtime_path");
    } else {
        entry["runtime_path"] = value(programs.shim.display().to_string());
    }
}

fn table() -> Item {
    Item::Table(Table::new())
}

fn not_a_table(name: &str) -> String {
    format!("\"{name}\" is no table")
}

/// The table at `path`, made where it is missing.
fn descend<'a>(root: &'a mut Table, path: &[&str]) -> Result<&'a mut Table, String> {
    let mut at = root;
    for name in path {
        let next = at.entry(name).or_insert_with(|| {
            let mut between = Table::new();
            // Shown by what stands in it.
            between.set_implicit(true);
            Item::Table(between)
        });
        at = next.as_table_mut().ok_or_else(|| not_a_table(name))?;
    }
    Ok(at)
}

/// Takes the entry away, tables that only led to it, and what makes it the default:
/// the plugin doesn't start with one that it doesn't know.
fn remove(at: &mut Table, path: &[&str]) {
    let Some((name, rest)) = path.split_first() else {
        at.remove(RUNTIME);
        return;
    };
    if *name == RUNTIMES && at.get(DEFAULT).and_then(Item::as_str) == Some(RUNTIME) {
        at.remove(DEFAULT);
    }
    if let Some(next) = at.get_mut(name).and_then(Item::as_table_mut) {
        remove(next, rest);
        if next.is_empty() && next.is_implicit() {
            at.remove(name);
        }
    }
}
