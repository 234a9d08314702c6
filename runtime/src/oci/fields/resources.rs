//! Rows of `linux.resources`.

use super::*;

const VERSION_1: &str = "it belongs to cgroup version 1; the guest has version 2";
const LEAF: &str = "no Linux since 5.0 has leaf weights";
const REALTIME: &str = "cgroup version 2 has no realtime budget";

#[rustfmt::skip] // One line for each field, so that the table can be read as one.
pub(crate) const FIELDS: &[Field] = &[
    applied("linux.resources.unified", GUEST, "one file name for each key"),
    applied("linux.resources.devices[].allow", GUEST, ""),
    applied("linux.resources.devices[].type", GUEST, ""),
    applied("linux.resources.devices[].major", GUEST, ""),
    applied("linux.resources.devices[].minor", GUEST, ""),
    applied("linux.resources.devices[].access", GUEST, ""),
    applied("linux.resources.pids.limit", HOST_AND_GUEST, "the host's is larger by the threads of the machine"),

    applied("linux.resources.memory.limit", MACHINE_AND_GUEST, "the machine gets it plus what the guest itself needs"),
    applied("linux.resources.memory.reservation", GUEST, ""),
    applied("linux.resources.memory.swap", GUEST, "the guest has no swap of its own"),
    refused("linux.resources.memory.swappiness", "cgroup version 2 has no swappiness"),
    ignored("linux.resources.memory.kernel", VERSION_1),
    ignored("linux.resources.memory.kernelTCP", VERSION_1),
    ignored("linux.resources.memory.disableOOMKiller", VERSION_1),
    ignored("linux.resources.memory.useHierarchy", VERSION_1),
    applied("linux.resources.memory.checkBeforeUpdate", GUEST, ""),

    applied("linux.resources.cpu.shares", HOST_AND_GUEST, ""),
    applied("linux.resources.cpu.quota", MACHINE_AND_GUEST, "the machine gets a processor for each begun CPU of it"),
    applied("linux.resources.cpu.period", MACHINE_AND_GUEST, ""),
    applied("linux.resources.cpu.burst", HOST_AND_GUEST, ""),
    applied("linux.resources.cpu.idle", HOST_AND_GUEST, "on the host, the smallest share"),
    applied("linux.resources.cpu.cpus", HOST, "the machine is pinned to them; the guest numbers its own"),
    applied("linux.resources.cpu.mems", HOST, "the machine is pinned to them; the guest numbers its own"),
    refused("linux.resources.cpu.realtimeRuntime", REALTIME),
    refused("linux.resources.cpu.realtimePeriod", REALTIME),

    applied("linux.resources.blockIO.weight", HOST, "the file server does the container's I/O"),
    applied("linux.resources.blockIO.weightDevice[].major", HOST, "the host's numbers"),
    applied("linux.resources.blockIO.weightDevice[].minor", HOST, ""),
    applied("linux.resources.blockIO.weightDevice[].weight", HOST, ""),
    ignored("linux.resources.blockIO.weightDevice[].leafWeight", LEAF),
    ignored("linux.resources.blockIO.leafWeight", LEAF),
    applied("linux.resources.blockIO.throttleReadBpsDevice", HOST, "the host's device numbers"),
    applied("linux.resources.blockIO.throttleWriteBpsDevice", HOST, ""),
    applied("linux.resources.blockIO.throttleReadIOPSDevice", HOST, ""),
    applied("linux.resources.blockIO.throttleWriteIOPSDevice", HOST, ""),
    applied("linux.resources.hugepageLimits", GUEST, ""),
    refused("linux.resources.network", NOT_YET),
    refused("linux.resources.rdma", NOT_YET),
];
