//! What a QEMU sees, of trees made for this.

use std::os::unix::fs::symlink;

use super::*;

/// A program of 64 bits for x86-64 with one program header.
fn program(loader: &str) -> Vec<u8> {
    let mut elf = vec![0; 64 + 56];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    elf[18] = 62;
    elf[32] = 64;
    elf[54] = 56;
    elf[56] = 1;
    elf[64] = 3;
    elf[72] = 64 + 56;
    elf[96] = u8::try_from(loader.len() + 1).unwrap();
    elf.extend(loader.bytes().chain([0]));
    elf
}

fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn inside_of(view: &View) -> Vec<(&str, Kind)> {
    let seen = view.files.iter();
    seen.map(|seen| (seen.inside.to_str().unwrap(), seen.kind))
        .collect()
}

#[test]
fn a_tree_with_a_loader_of_its_own_is_the_root() {
    let tree = tempfile::tempdir().unwrap();
    let tree = fs::canonicalize(tree.path()).unwrap();
    let usr = tree.join("usr");
    let libraries = usr.join("lib/x86_64-linux-gnu");
    write(&libraries.join("ld-linux-x86-64.so.2"), b"loader");
    // Absolute, as packages have it: it means the tree's, not the host's.
    fs::create_dir(usr.join("lib64")).unwrap();
    let link = usr.join("lib64/ld-linux-x86-64.so.2");
    symlink("/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", link).unwrap();
    write(&usr.join("share/seabios/bios.bin"), b"");
    let qemu = usr.join("bin/qemu");
    write(&qemu, &program("/lib64/ld-linux-x86-64.so.2"));
    let view = View::found(&qemu).unwrap();
    assert_eq!(view.program, Path::new("/usr/bin/qemu"));
    assert_eq!(
        inside_of(&view),
        [
            ("/usr/lib/x86_64-linux-gnu", Kind::Directory),
            ("/usr/share/seabios", Kind::Directory),
            ("/lib64/ld-linux-x86-64.so.2", Kind::File),
            ("/usr/bin/qemu", Kind::File),
        ]
    );
    assert!(view.files.iter().all(|seen| seen.host.starts_with(&tree)));
}

#[test]
fn the_folder_that_an_own_build_was_installed_to_is_seen_beside_the_hosts_libraries() {
    let prefix = tempfile::tempdir().unwrap();
    let prefix = fs::canonicalize(prefix.path()).unwrap();
    let qemu = prefix.join("bin/qemu");
    write(&qemu, &program("/lib64/ld-linux-x86-64.so.2"));
    write(&prefix.join("share/qemu/bios.bin"), b"");
    write(&prefix.join("lib/qemu/accel.so"), b"");
    write(&prefix.join("etc/secret"), b"");
    let view = View::found(&qemu).unwrap();
    assert_eq!(view.program, qemu);
    let own: Vec<_> = view
        .files
        .iter()
        .filter_map(|seen| seen.inside.strip_prefix(&prefix).ok())
        .collect();
    assert_eq!(own, ["lib", "share/qemu", "bin/qemu"].map(Path::new));
    let hosts = &view.files[0];
    assert!(hosts.host == hosts.inside && hosts.kind == Kind::Directory);
}

#[test]
fn what_is_no_program_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("qemu");
    write(&script, b"#!/bin/sh\nexec qemu\n");
    let err = View::of(&script).unwrap_err().to_string();
    let wanted = format!("QEMU {}: not an x86-64 program: ", script.display());
    assert!(err.starts_with(&wanted), "{err}");
    write(&script, &program("/nowhere/loader"));
    let err = View::of(&script).unwrap_err().to_string();
    assert!(
        err.contains(": its loader /nowhere/loader is not there (see "),
        "{err}"
    );
    write(&script, &program("loader"));
    View::of(&script).unwrap_err();
    let mut cut = program("/loader");
    cut.truncate(100);
    write(&script, &cut);
    View::of(&script).unwrap_err();
}

#[test]
fn a_static_program_needs_no_library() {
    let prefix = tempfile::tempdir().unwrap();
    let qemu = prefix.path().join("bin/qemu");
    let mut elf = program("/loader");
    elf[64] = 1;
    write(&qemu, &elf);
    let view = View::found(&qemu).unwrap();
    assert_eq!(view.files.len(), 1);
}
