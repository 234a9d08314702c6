//! docs/security.md lists the system calls of each helper as the code has them:
//! `BLESS=1 cargo test -p caisson-tests --test security_page` writes the list anew.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use caisson_jail::syscalls::listed;
use syscalls::Sysno;

const BEGIN: &str = "<!-- system calls: begin -->\n";
const END: &str = "<!-- system calls: end -->\n";

/// One line of the table; what is allowed by its arguments only has an asterisk.
fn row(who: &str, calls: &BTreeMap<i64, bool>) -> String {
    let name = |(number, by_argument): (&i64, &bool)| {
        let call = Sysno::new(usize::try_from(*number).unwrap()).unwrap();
        let mark = if *by_argument { "\\*" } else { "" };
        format!("{}{mark}", call.name())
    };
    let mut names: Vec<String> = calls.iter().map(name).collect();
    names.sort_unstable();
    format!("| {who} | {} | {} |\n", names.len(), names.join(" "))
}

fn table() -> String {
    let mut table = "| who | number | calls |\n|---|---|---|\n".to_owned();
    for (who, tables) in caisson_vmm::seccomp::tables() {
        table.push_str(&row(who, &listed(tables.iter().copied())));
    }
    let vsock = caisson_vmm::vsock_backend::TABLES;
    table.push_str(&row("caisson-vsock", &listed(vsock.iter().copied())));
    let files = caisson_fs::server::tables();
    let files = listed(files.iter().map(Vec::as_slice));
    write!(table, "{}", row("caisson-fs", &files)).unwrap();
    table
}

#[test]
fn the_page_lists_the_system_calls_that_the_code_allows() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/security.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let wanted = format!("{before}{BEGIN}{}{END}{after}", table());
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&page, &wanted).unwrap();
    }
    let now = std::fs::read_to_string(&page).unwrap();
    assert_eq!(now, wanted, "write it anew with BLESS=1");
}
