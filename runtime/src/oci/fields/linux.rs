//! Rows of `linux`, without its resources.

use super::*;

const LISTENER: &str = "a listener on the host can't be notified by the guest's kernel";

#[rustfmt::skip] // One line for each field, so that the table can be read as one.
pub(crate) const FIELDS: &[Field] = &[
    applied("linux.namespaces[].type", HOST_AND_GUEST, "network: on the host; the machine is the container's own. cgroup: its own, listed or not. Any other that is not listed is the machine's, never the host's; without network: refused"),
    applied("linux.namespaces[].path", HOST, "network only; others can't reach into a machine and are refused"),
    applied("linux.uidMappings", HOST_AND_GUEST, "user namespace inside the guest; for an ordinary user, on the host; it does not own the network: CAP_NET_* mean nothing in it"),
    applied("linux.gidMappings", HOST_AND_GUEST, "user namespace inside the guest; for an ordinary user, on the host"),
    applied("linux.timeOffsets.boottime", GUEST, ""),
    applied("linux.timeOffsets.monotonic", GUEST, ""),

    applied("linux.devices[].type", GUEST, "character devices that are the same on every Linux, and pipes"),
    applied("linux.devices[].path", GUEST, ""),
    applied("linux.devices[].major", GUEST, ""),
    applied("linux.devices[].minor", GUEST, ""),
    applied("linux.devices[].fileMode", GUEST, ""),
    applied("linux.devices[].uid", GUEST, ""),
    applied("linux.devices[].gid", GUEST, ""),
    refused("linux.netDevices", "a machine has no network devices of the host's yet; remove it from the configuration"),

    applied("linux.cgroupsPath", HOST, "for the owner, the machine and the file server; the guest's is named after the container"),
    applied("linux.rootfsPropagation", GUEST, "inside the guest: nothing reaches the host"),
    applied("linux.maskedPaths", GUEST, ""),
    applied("linux.readonlyPaths", GUEST, ""),
    applied("linux.sysctl", GUEST, ""),
    refused("linux.mountLabel", NO_LABELS),
    applied("linux.personality", GUEST, ""),
    refused("linux.personality.flags", "the specification defines none"),
    applied("linux.seccomp.defaultAction", HOST, "compiled on the host, installed in the guest, in exec'd processes too"),
    applied("linux.seccomp.defaultErrnoRet", HOST, "only with an action that returns it"),
    applied("linux.seccomp.architectures", HOST, "those of little-endian byte order"),
    applied("linux.seccomp.flags", HOST, "`SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` needs a listener"),
    refused("linux.seccomp.listenerPath", LISTENER),
    refused("linux.seccomp.listenerMetadata", LISTENER),
    applied("linux.seccomp.syscalls[].names", HOST, "names that libseccomp doesn't know are ignored"),
    applied("linux.seccomp.syscalls[].action", HOST, "all but `SCMP_ACT_NOTIFY`, which needs a listener"),
    applied("linux.seccomp.syscalls[].errnoRet", HOST, "only with an action that returns it"),
    applied("linux.seccomp.syscalls[].args", HOST, ""),
    refused("linux.intelRdt", "caisson does not divide the host's caches; put the owner into a resctrl group by a createRuntime hook"),
    applied("linux.memoryPolicy.mode", HOST, "for the memory of the machine and its helpers"),
    applied("linux.memoryPolicy.nodes", HOST, "the host's numbers"),
    applied("linux.memoryPolicy.flags", HOST, ""),
];
