//! Podman's containers.conf: a file of our own beside it, so nothing of the
//! administrator's is touched.

use toml_edit::{Array, DocumentMut, Item, Table, value};

use super::{Aim, Programs, RUNTIME};

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

fn with_ours(theirs: &[&'static str]) -> Array {
    theirs.iter().copied().chain([RUNTIME]).collect()
}
