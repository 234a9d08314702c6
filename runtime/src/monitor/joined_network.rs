//! That a container which joined a machine has no network of its own.
//!
//! Owns the look at it. The machine's interfaces are those of the first container's
//! namespace: what another namespace has would be dropped in silence.

use std::fs;
use std::os::unix::fs::MetadataExt;

/// Devices that kernels put into every namespace, for tunnels nobody has made.
const FALLBACKS: [&str; 10] = [
    "tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0",
    "lo",
];

/// Looks at the namespace of the process that stands for the container.
pub(crate) fn check(proxy_pid: i32) -> Result<(), String> {
    let namespace = |process: &str| {
        let link = fs::metadata(format!("/proc/{process}/ns/net"));
        link.map(|namespace| namespace.ino()).ok()
    };
    if namespace("self") == namespace(&proxy_pid.to_string()) {
        return Ok(());
    }
    let table = fs::read_to_string(format!("/proc/{proxy_pid}/net/dev")).unwrap_or_default();
    match own_interface(&table) {
        None => Ok(()),
        Some(name) => Err(format!(
            "its network namespace has the interface {name}, and the container joined a machine that has another one: give it the network of the first container (Docker: --network container:NAME)"
        )),
    }
}

fn own_interface(table: &str) -> Option<&str> {
    let names = table
        .lines()
        .filter_map(|line| line.split_once(':').map(|(name, _)| name.trim()));
    names.into_iter().find(|name| !FALLBACKS.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_nobody_has_filled_has_no_interface() {
        let table = "Inter-|   Receive\n face |bytes\n    lo: 0 0\n  sit0: 0 0\n";
        assert_eq!(own_interface(table), None);
        let table = format!("{table}  eth0: 5 1\n");
        assert_eq!(own_interface(&table), Some("eth0"));
    }
}
