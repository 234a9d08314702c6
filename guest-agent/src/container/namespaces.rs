//! The namespaces that are made for a container, and those that it joins.
//!
//! Owns the reading of `linux.namespaces`. The virtual machine is the
//! container's network, so a network namespace entry has no effect. A
//! cgroup namespace is made for each container, whether configured or not: what
//! /proc/self/cgroup names has to be found below /sys/fs/cgroup, and a container
//! without one would see the guest's tree, never the host's.

use caisson_protocol::JOINED_PREFIX;
use nix::sched::CloneFlags;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};

use crate::failure::Failure;

/// The `CLONE_NEW*` flags of the namespaces to make, or to join.
///
/// # Errors
/// [`Failure::Refused`] for a namespace that exists elsewhere, for a container
/// without a mount namespace, and for fields that need a namespace it lacks.
pub(crate) fn wanted(spec: &Spec) -> Result<CloneFlags, Failure> {
    let listed = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().as_deref());
    let mut flags = CloneFlags::CLONE_NEWCGROUP;
    for namespace in listed.unwrap_or_default() {
        flags |= flag(namespace)?;
    }
    let shared = joined(spec).into_iter().map(|(_, flag)| flag);
    check(spec, flags - shared.collect::<CloneFlags>())?;
    Ok(flags)
}

/// The names of other containers in this machine, with the `CLONE_NEW*` flags of
/// those of their namespaces that are joined.
pub(crate) fn joined(spec: &Spec) -> Vec<(String, CloneFlags)> {
    let listed = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().as_deref());
    let join = |namespace: &LinuxNamespace| {
        let id = joined_id(namespace)?.to_owned();
        Some((id, flag(namespace).ok()?))
    };
    listed.unwrap_or_default().iter().filter_map(join).collect()
}

fn joined_id(namespace: &LinuxNamespace) -> Option<&str> {
    let path = namespace.path().as_ref()?.to_str()?;
    path.strip_prefix(JOINED_PREFIX)
}

/// Checks that fields and namespaces that depend on each other are both configured.
fn check(spec: &Spec, flags: CloneFlags) -> Result<(), Failure> {
    let linux = spec.linux().as_ref();
    let has_offsets = linux.is_some_and(|linux| {
        let offsets = linux.time_offsets().as_ref();
        offsets.is_some_and(|offsets| !offsets.is_empty())
    });
    let mapped = linux.map_or([false; 2], |linux| {
        [linux.uid_mappings(), linux.gid_mappings()]
            .map(|map| map.as_ref().is_some_and(|map| !map.is_empty()))
    });
    let needed = [
        (
            true,
            CloneFlags::CLONE_NEWNS,
            "a container needs a mount namespace",
        ),
        (
            spec.hostname().is_some(),
            CloneFlags::CLONE_NEWUTS,
            "unable to set hostname without a private UTS namespace",
        ),
        (
            spec.domainname().is_some(),
            CloneFlags::CLONE_NEWUTS,
            "unable to set domainname without a private UTS namespace",
        ),
        (
            has_offsets,
            TIME,
            "time namespace offsets specified, but time namespace isn't enabled in the config",
        ),
        (
            mapped.contains(&true),
            CloneFlags::CLONE_NEWUSER,
            "user namespace mappings specified, but user namespace isn't enabled in the config",
        ),
    ];
    for (asked, flag, complaint) in needed {
        if asked && !flags.contains(flag) {
            return Err(Failure::Refused(format!("linux.namespaces: {complaint}")));
        }
    }
    if flags.contains(CloneFlags::CLONE_NEWUSER) && mapped.contains(&false) {
        let complaint = "user namespaces enabled, but no mappings of uids and gids specified";
        return Err(Failure::Refused(format!("linux.namespaces: {complaint}")));
    }
    Ok(())
}

fn flag(namespace: &LinuxNamespace) -> Result<CloneFlags, Failure> {
    let can_be_joined = matches!(
        namespace.typ(),
        LinuxNamespaceType::Ipc | LinuxNamespaceType::Pid | LinuxNamespaceType::Uts
    );
    let joins = can_be_joined && joined_id(namespace).is_some();
    if let Some(path) = namespace.path().as_ref().filter(|_| !joins) {
        return Err(Failure::Refused(format!(
            "linux.namespaces: path {} can't be joined from the guest",
            path.display()
        )));
    }
    Ok(match namespace.typ() {
        LinuxNamespaceType::Mount => CloneFlags::CLONE_NEWNS,
        LinuxNamespaceType::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        LinuxNamespaceType::Uts => CloneFlags::CLONE_NEWUTS,
        LinuxNamespaceType::Ipc => CloneFlags::CLONE_NEWIPC,
        LinuxNamespaceType::User => CloneFlags::CLONE_NEWUSER,
        LinuxNamespaceType::Pid => CloneFlags::CLONE_NEWPID,
        LinuxNamespaceType::Time => TIME,
        LinuxNamespaceType::Network => CloneFlags::empty(),
    })
}

/// `CLONE_NEWTIME`, which the nix crate doesn't name.
pub(crate) const TIME: CloneFlags = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> Spec {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_network_of_the_machine_is_the_containers() {
        let spec = spec(
            r#"{"ociVersion":"1.3.0","linux":{"namespaces":[
                {"type":"mount"},{"type":"pid"},{"type":"network"},{"type":"time"}]}}"#,
        );
        let expected = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | TIME;
        let always = CloneFlags::CLONE_NEWCGROUP;
        assert_eq!(wanted(&spec).unwrap(), expected | always);
    }

    #[test]
    fn what_is_another_containers_is_joined() {
        let spec = spec(
            r#"{"ociVersion":"1.3.0","linux":{"namespaces":[
                {"type":"mount"},{"type":"ipc","path":"container/pod"},{"type":"uts"}]}}"#,
        );
        let all = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
        let always = CloneFlags::CLONE_NEWCGROUP;
        assert_eq!(wanted(&spec).unwrap(), all | always);
        let expected = ("pod".to_owned(), CloneFlags::CLONE_NEWIPC);
        assert_eq!(joined(&spec), [expected]);
    }

    #[test]
    fn what_can_not_be_given_is_refused() {
        for (json, complaint) in [
            (r#"{"ociVersion":"1.3.0","linux":{}}"#, "mount namespace"),
            (
                r#"{"ociVersion":"1.3.0","hostname":"h","linux":{"namespaces":[{"type":"mount"}]}}"#,
                "private UTS",
            ),
            (
                r#"{"ociVersion":"1.3.0","linux":{"namespaces":[{"type":"pid","path":"/proc/1/ns/pid"}]}}"#,
                "/proc/1/ns/pid",
            ),
            (
                r#"{"ociVersion":"1.3.0","linux":{"namespaces":[{"type":"mount"}],"timeOffsets":{"boottime":{"secs":1}}}}"#,
                "time namespace isn't enabled",
            ),
            (
                r#"{"ociVersion":"1.3.0","linux":{"namespaces":[{"type":"mount"}],
                    "uidMappings":[{"containerID":0,"hostID":1,"size":1}]}}"#,
                "user namespace isn't enabled",
            ),
            (
                r#"{"ociVersion":"1.3.0","linux":{"namespaces":[{"type":"mount"},{"type":"user"}]}}"#,
                "no mappings",
            ),
        ] {
            let line = wanted(&spec(json)).unwrap_err().line();
            assert!(line.contains(complaint), "{line}");
        }
    }
}
