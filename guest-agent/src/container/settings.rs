//! Kernel settings of a container (`linux.sysctl`): those that its namespaces isolate.
//!
//! Owns the names of the files and the time of each write. Settings are written while the
//! container is created, before its /proc/sys may become read-only; network settings
//! before it has a user namespace, which doesn't own the network namespace. Settings of
//! interfaces are written again at its start: interfaces come in between, and with
//! settings of their own.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
};

use caisson_protocol::is_ipc_setting;
use rustix::{fs::OFlags, io::Errno};

use super::rootfs::Rootfs;
use crate::failure::Failure;

/// Sets the settings of the caller's network namespace, except those of interfaces that
/// don't exist yet.
///
/// # Errors
/// As [`set`].
pub(crate) fn set_of_network(settings: &HashMap<String, String>) -> Result<(), Failure> {
    for (name, value) in in_order(settings) {
        let path = setting_file(name);
        if !is_of_network(&path) || !is_namespaced(name) {
            continue;
        }
        match write(&path, value) {
            Err(Errno::NOENT) if interface_in(&path).is_some() => {}
            written => written.map_err(|errno| refused(name, value, errno))?,
        }
    }
    Ok(())
}

/// Sets all settings except those of the network.
///
/// # Errors
/// [`Failure::Refused`] for a setting of the whole kernel, else the kernel's,
/// which for an unknown setting is that its file doesn't exist.
pub(crate) fn set(rootfs: &Rootfs, settings: &HashMap<String, String>) -> Result<(), Failure> {
    for (name, value) in in_order(settings) {
        if !is_namespaced(name) {
            return Err(Failure::Refused(format!(
                "sysctl {name:?} is not in a separate kernel namespace"
            )));
        }
        let path = setting_file(name);
        if is_of_network(&path) {
            continue;
        }
        let file = rootfs.open(&path, OFlags::WRONLY | OFlags::TRUNC);
        file.and_then(|file| rustix::io::write(&file, value.as_bytes()))
            .map_err(|errno| refused(name, value, errno))?;
    }
    Ok(())
}

/// Sets the settings of interfaces in the network namespace of the caller.
///
/// # Errors
/// [`Failure::Refused`], with the setting, for an interface that isn't there and for
/// what the kernel refuses.
pub(crate) fn set_of_interfaces(settings: &HashMap<String, String>) -> Result<(), Failure> {
    for (name, value) in in_order(settings) {
        let path = setting_file(name);
        if interface_in(&path).is_none() {
            continue;
        }
        write(&path, value).map_err(|errno| refused(name, value, errno))?;
    }
    Ok(())
}

/// Writes through the guest's own /proc.
fn write(path: &Path, value: &str) -> Result<(), Errno> {
    let written = OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

fn is_of_network(path: &Path) -> bool {
    path.starts_with("/proc/sys/net")
}

/// Settings of all interfaces come before those of one.
fn in_order(settings: &HashMap<String, String>) -> Vec<(&String, &String)> {
    let mut all: Vec<_> = settings.iter().collect();
    all.sort_by_key(|(name, _)| {
        let path = setting_file(name);
        let one = interface_in(&path).is_some_and(|word| !["all", "default"].contains(&word));
        (one, *name)
    });
    all
}

fn refused(name: &str, value: &str, errno: Errno) -> Failure {
    let reason = crate::failure::Errno::from(errno);
    let path = setting_file(name);
    Failure::Refused(match (errno, interface_in(&path)) {
        (Errno::NOENT, Some(interface)) => format!(
            "linux.sysctl: there is no setting {name:?}, or the container has no interface {interface}: {reason}"
        ),
        (Errno::NOENT, None) => {
            format!("linux.sysctl: the guest's kernel has no setting {name:?}: {reason}")
        }
        _ => format!("linux.sysctl: set {name:?} to {value:?}: {reason}"),
    })
}

/// The interface, or `all` or `default`, in the path of a setting of interfaces:
/// /proc/sys/net/FAMILY/conf/INTERFACE/SETTING, or `neigh`.
fn interface_in(path: &Path) -> Option<&str> {
    let mut words = path.strip_prefix("/proc/sys/net").ok()?.iter().skip(1);
    let kind = words.next()?;
    let interface = words.next()?.to_str()?;
    (kind == "conf" || kind == "neigh").then_some(interface)
}

/// In a name with slashes, dots are part of names: net/ipv4/conf/eth0.1/forwarding,
/// which is also spelled net.ipv4.conf.eth0/1.forwarding (sysctl(8)).
fn setting_file(name: &str) -> PathBuf {
    let slashes_first = name
        .find(['.', '/'])
        .is_some_and(|at| name[at..].starts_with('/'));
    let path: String = name
        .chars()
        .map(|letter| match letter {
            '.' if !slashes_first => '/',
            '/' if !slashes_first => '.',
            letter => letter,
        })
        .collect();
    Path::new("/proc/sys").join(path)
}

/// Whether IPC, network or UTS namespaces isolate a setting; by runc's rules.
fn is_namespaced(name: &str) -> bool {
    if setting_file(name).iter().any(|part| part == "..") {
        return false;
    }
    let name = name.replace('/', ".");
    is_ipc_setting(&name) || name.starts_with("net.") || name == "kernel.domainname"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_in_the_name_of_a_device_stays() {
        for (name, file) in [
            ("net.core.somaxconn", "net/core/somaxconn"),
            ("net/core/somaxconn", "net/core/somaxconn"),
            (
                "net.ipv4.conf.eth0/1.forwarding",
                "net/ipv4/conf/eth0.1/forwarding",
            ),
            (
                "net/ipv4/conf/eth0.1/forwarding",
                "net/ipv4/conf/eth0.1/forwarding",
            ),
        ] {
            assert_eq!(setting_file(name), Path::new("/proc/sys").join(file));
        }
    }

    #[test]
    fn settings_of_one_interface_come_after_those_of_all() {
        let names = [
            "net.ipv4.conf.eth0.forwarding",
            "net.ipv6.conf.all.disable_ipv6",
            "net.ipv4.neigh.net1.proxy_delay",
            "net.ipv4.conf.default.rp_filter",
            "net.core.somaxconn",
        ];
        let settings = names.map(|name| (name.to_owned(), "1".to_owned())).into();
        let order: Vec<_> = in_order(&settings)
            .into_iter()
            .map(|(name, _)| name.as_str())
            .collect();
        let wanted = [names[4], names[3], names[1], names[0], names[2]];
        assert_eq!(order, wanted);
        let file = setting_file("net.ipv4.conf.eth0/1.forwarding");
        assert_eq!(interface_in(&file), Some("eth0.1"));
        assert_eq!(interface_in(&setting_file("net.ipv4.ip_forward")), None);
    }

    #[test]
    fn only_settings_of_namespaces_are_the_containers_own() {
        for own in [
            "net.ipv4.ip_forward",
            "net/core/somaxconn",
            "fs.mqueue.msg_max",
            "kernel.sem",
        ] {
            assert!(is_namespaced(own), "{own}");
            let of_network = own.starts_with("net");
            assert_eq!(is_of_network(&setting_file(own)), of_network, "{own}");
        }
        for shared in [
            "vm.swappiness",
            "kernel.panic",
            "kernel.shmmaximum",
            "network.x",
            "net/../kernel/panic",
        ] {
            assert!(!is_namespaced(shared), "{shared}");
        }
    }
}
