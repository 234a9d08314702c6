//! The agent's program where it has no business: as a process among others.

use std::process::Command;

/// In a mount namespace of its own, should it ever begin to mount.
#[test]
fn the_agent_refuses_to_be_any_process_but_the_first() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let agent = env!("CARGO_BIN_EXE_caisson-agent");
    let output = Command::new("unshare").args(["--mount", agent]).output();
    let output = output.expect("unshare of util-linux");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.starts_with("caisson-agent: it is the first process"),
        "{said}"
    );
}
