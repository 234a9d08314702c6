//! Rows outside of `process` and `linux`.

use super::*;

const NO_HARDWARE: &str = "a machine of caisson has virtio devices only, and no device tree";
const OTHER_SYSTEM: &str = "caisson runs Linux containers";

#[rustfmt::skip] // One line for each field, so that the table can be read as one.
pub(crate) const FIELDS: &[Field] = &[
    applied("ociVersion", HOST_AND_GUEST, "1.0 to 1.3"),
    applied("root.path", HOST_AND_GUEST, "shared over virtio-fs"),
    applied("root.readonly", HOST_AND_GUEST, "the file server refuses writes, too"),
    applied("hostname", GUEST, ""),
    applied("domainname", GUEST, ""),
    applied("annotations", HOST, "in the state; what caisson reads, and within what they choose, is in docs/annotations.md"),

    applied("mounts[].destination", GUEST, ""),
    applied("mounts[].type", HOST_AND_GUEST, "bind, proc, sysfs, tmpfs, devpts, mqueue, cgroup, cgroup2; overlay of directories of the host"),
    applied("mounts[].source", HOST_AND_GUEST, "of a bind mount: shared over virtio-fs; /proc, /sys and /dev are the guest's own"),
    applied("mounts[].options", HOST_AND_GUEST, "`caisson features` lists them"),
    applied("mounts[].uidMappings", HOST, "of a bind mount, where the host's file system knows id-mapped mounts"),
    applied("mounts[].gidMappings", HOST, "of a bind mount, where the host's file system knows id-mapped mounts"),

    applied("hooks.prestart", HOST, "before the machine starts"),
    applied("hooks.createRuntime", HOST, "after prestart"),
    applied("hooks.createContainer", HOST, "after createRuntime, in the namespaces of the container's owner"),
    applied("hooks.startContainer", GUEST, "inside the container, before its program; found in its root"),
    applied("hooks.poststart", HOST, ""),
    applied("hooks.poststop", HOST, ""),

    refused("vm.hypervisor", "caisson is the hypervisor; the annotation `dev.caisson.machine` chooses between kvm and tcg"),
    applied("vm.kernel.path", MACHINE, "the installed one, or one of `allowed_kernels` of the configuration"),
    refused("vm.kernel.parameters", "the kernel's parameters are caisson's own"),
    refused("vm.kernel.initrd", "the machine boots from caisson's image, which holds its agent"),
    refused("vm.image", "the container's root file system is shared; the machine has no image"),
    applied("vm.hwConfig.vcpus", MACHINE, "before the number that the CPU quota gives; at most `max_vcpus` of the configuration"),
    applied("vm.hwConfig.memory", MACHINE, "in bytes; before the size that the memory limit gives; at most `max_mem_mib` of the configuration"),
    refused("vm.hwConfig.deviceTree", NO_HARDWARE),
    refused("vm.hwConfig.dtdevs", NO_HARDWARE),
    refused("vm.hwConfig.iomems", NO_HARDWARE),
    refused("vm.hwConfig.irqs", NO_HARDWARE),
    refused("windows", OTHER_SYSTEM),
    refused("solaris", OTHER_SYSTEM),
    refused("zos", OTHER_SYSTEM),
    refused("freebsd", OTHER_SYSTEM),
];
