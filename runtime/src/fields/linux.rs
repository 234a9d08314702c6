//! Rows of `linux`, without its resources.

use super::*;

#[rustfmt::skip] // One line for each field, so that the table can be read as one.
pub(super) const FIELDS: &[Field] = &[
    applied("linux.namespaces[].type", HOST_AND_GUEST, "network: on the host; the machine is the container's own"),
    applied("linux.namespaces[].path", HOST, "network only; others can't reach into a machine and are refused"),
    applied("linux.uidMappings", HOST_AND_GUEST, "user namespace inside the guest; for an ordinary user, on the host"),
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
    refused("linux.netDevices", NOT_YET),

    applied("linux.cgroupsPath", HOST, "for the owner, the machine and the file server; the guest's is named after the container"),
    applied("linux.rootfsPropagation", GUEST, "inside the guest: nothing reaches the host"),
    applied("linux.maskedPaths", GUEST, ""),
    applied("linux.readonlyPaths", GUEST, ""),
    applied("linux.sysctl", GUEST, ""),
    refused("linux.mountLabel", NOT_YET),
    applied("linux.personality", GUEST, ""),
    refused("linux.personality.flags", "the specification defines none"),
    refused("linux.seccomp", NOT_YET),
    refused("linux.intelRdt", NOT_YET),
    refused("linux.memoryPolicy", NOT_YET),
];
