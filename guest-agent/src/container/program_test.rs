//! Look-up and environment, against files of a temporary directory.

use std::{fs, os::unix::fs::PermissionsExt};

use super::*;

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn home_comes_from_passwd_only_when_it_is_not_given() {
    let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/var/www:/bin/false\n";
    assert_eq!(environment(&[], 33, passwd), ["HOME=/var/www"]);
    assert_eq!(environment(&[], 99, passwd), ["HOME=/"]);
    assert_eq!(environment(&strings(&["HOME="]), 0, passwd), ["HOME=/root"]);
    assert_eq!(environment(&strings(&["HOME=/x"]), 0, passwd), ["HOME=/x"]);
}

#[test]
fn the_last_of_two_values_counts() {
    let given = strings(&["A=1", "HOME=/", "A=2"]);
    assert_eq!(environment(&given, 0, ""), ["HOME=/", "A=2"]);
}

#[test]
fn what_is_missing_is_refused_in_runcs_words() {
    let process = |name: &str| -> Process {
        serde_json::from_value(serde_json::json!({
            "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": [name],
        }))
        .unwrap()
    };
    let directory = std::env::temp_dir().join(format!("caisson-program-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let plain = directory.join("plain");
    fs::write(&plain, "").unwrap();
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).unwrap();
    let path = format!("PATH=/nowhere::{}", directory.display());
    let find = |name: &str| {
        let found = Program::find(&process(name), &strings(&[&path]));
        found
            .map(|program| program.path)
            .map_err(|failure| failure.line())
    };

    let not_found = "exec: \"plain\": executable file not found in $PATH";
    assert_eq!(find("plain").unwrap_err(), not_found);
    assert_eq!(
        find("/missing").unwrap_err(),
        "exec: \"/missing\": stat /missing: no such file or directory"
    );
    assert_eq!(find("/tmp").unwrap_err(), "exec: \"/tmp\": is a directory");
    assert_eq!(
        find(plain.to_str().unwrap()).unwrap_err(),
        format!("exec: {plain:?}: permission denied")
    );

    fs::set_permissions(&plain, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(find("plain").unwrap(), plain);
    fs::remove_dir_all(&directory).unwrap();
}
