//! The figures in the README: those of docs/figures.json, which the benchmark writes.
//! `BLESS=1` writes the README's table anew.

use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

use crate::tree::root;

/// Rows of the table: the benchmark's name of each, and the README's.
const ROWS: &[(&str, &str)] = &[
    ("run true vms", "`run` of true, whole"),
    ("run true cpu", "`run` of true"),
    ("exec true vms", "`exec` of true"),
    ("exec true cpu", "`exec` of true"),
    (
        "split: VMM start to first guest instruction",
        "VMM start to first guest instruction",
    ),
    (
        "split: kernel entry to first process",
        "kernel entry to first process",
    ),
    (
        "split: kernel entry to agent ready",
        "kernel entry to agent ready",
    ),
    ("kvm exits", "VM exits, start to finish"),
    ("kvm exits to user space", "of these to user space"),
    ("idle exits per second", "idle exits"),
    ("host PSS MiB", "host processes of one container, PSS"),
    ("host PSS of vmm", "of these the VMM"),
    ("host PSS MiB, each of 8", "host processes, each of 8"),
    ("guest RAM touched", "guest RAM touched"),
    (
        "memory per idle container MiB",
        "memory per idle container, everything, of 8",
    ),
    ("read 64 MiB, first", "read 64 MiB, first"),
    ("read 64 MiB, second", "read 64 MiB, second"),
    ("untar, exits per file", "untar of small files, per file"),
    (
        "untar, exits per request",
        "untar of small files, per request",
    ),
    ("size of caisson", "size of caisson"),
    ("size of caisson-vmm", "size of caisson-vmm"),
    ("size of caisson-fs", "size of caisson-fs"),
    ("size of initramfs.cpio", "size of the guest's initramfs"),
    ("size of vmlinux", "size of the guest's kernel"),
];
const PEERS: [&str; 5] = ["runc", "crun", "krun", "krunfw", "qemu"];
const HEAD: &str = "| what | unit | caisson | budget | runc | crun | libkrun | libkrun, its kernel | QEMU + virtiofsd |\n\
    |---|---|---|---|---|---|---|---|---|\n";

fn table(figures: &Value) -> String {
    let mut table = HEAD.to_owned();
    for (name, title) in ROWS {
        let row = figures.as_array().unwrap().iter();
        let row = row.clone().find(|row| row["name"] == *name);
        assert!(row.is_some(), "docs/figures.json lacks {name:?}");
        let row = row.unwrap();
        let cell = |value: &Value| match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        write!(
            table,
            "| {title} | {} | **{}** | {} |",
            cell(&row["unit"]),
            cell(&row["caisson"]),
            cell(&row["budget"])
        )
        .unwrap();
        for peer in PEERS {
            write!(table, " {} |", cell(&row["peers"][peer])).unwrap();
        }
        table.push('\n');
    }
    table
}

#[test]
fn the_readme_has_the_benchmarks_figures() {
    let figures = fs::read_to_string(root().join("docs/figures.json")).unwrap();
    let table = table(&serde_json::from_str(&figures).unwrap());
    let path = root().join("README.md");
    let page = fs::read_to_string(&path).unwrap();
    let begin = page.find(HEAD).unwrap();
    let rest = page.get(begin..).unwrap();
    let end = begin + rest.find("\n\n").unwrap() + 1;
    if std::env::var_os("BLESS").is_some() {
        let page = [&page[..begin], &table, &page[end..]].concat();
        return fs::write(path, page).unwrap();
    }
    assert_eq!(
        &page[begin..end],
        table,
        "`BLESS=1 cargo test -p caisson-tests --test tidy readme` writes it anew"
    );
}

#[test]
fn a_row_has_each_peer_at_its_place() {
    let row = |name: &str| {
        serde_json::json!({
            "name": name, "unit": "ms", "caisson": 1.5, "budget": null, "peers": {"qemu": 3},
        })
    };
    let all: Value = ROWS.iter().map(|(name, _)| row(name)).collect();
    let table = table(&all);
    let line = table.lines().nth(2).unwrap();
    assert_eq!(
        line,
        "| `run` of true, whole | ms | **1.5** |  |  |  |  |  | 3 |"
    );
    assert_eq!(table.lines().count(), ROWS.len() + 2);
}
