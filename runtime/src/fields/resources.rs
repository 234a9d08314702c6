//! Rows of `linux.resources`.

use super::*;

const VERSION_1: &str = "it belongs to cgroup version 1; the guest has version 2";
const REALTIME: &str = "cgroup version 2 has no realtime budget";

#[rustfmt::skip] // One line for each field, so that the table can be read as one.
pub(super) const FIELDS: &[Field] = &[
    applied("linux.resources.unified", GUEST, "one file name for each key"),
    applied("linux.resources.devices[].allow", GUEST, ""),
    applied("linux.resources.devices[].type", GUEST, ""),
    applied("linux.resources.devices[].major", GUEST, ""),
    applied("linux.resources.devices[].minor", GUEST, ""),
    applied("linux.resources.devices[].access", GUEST, ""),
    applied("linux.resources.pids.limit", GUEST, ""),

    applied("linux.resources.memory.limit", MACHINE_AND_GUEST, "the machine gets it plus what the guest itself needs"),
    applied("linux.resources.memory.reservation", GUEST, ""),
    applied("linux.resources.memory.swap", GUEST, "the guest has no swap of its own"),
    refused("linux.resources.memory.swappiness", "cgroup version 2 has no swappiness"),
    ignored("linux.resources.memory.kernel", VERSION_1),
    ignored("linux.resources.memory.kernelTCP", VERSION_1),
    ignored("linux.resources.memory.disableOOMKiller", VERSION_1),
    ignored("linux.resources.memory.useHierarchy", VERSION_1),
    ignored("linux.resources.memory.checkBeforeUpdate", "a new container uses nothing yet"),

    applied("linux.resources.cpu.shares", GUEST, ""),
    applied("linux.resources.cpu.quota", MACHINE_AND_GUEST, "the machine gets a processor for each begun CPU of it"),
    applied("linux.resources.cpu.period", MACHINE_AND_GUEST, ""),
    applied("linux.resources.cpu.burst", GUEST, ""),
    applied("linux.resources.cpu.idle", GUEST, ""),
    applied("linux.resources.cpu.cpus", GUEST, "numbers of the guest's processors"),
    applied("linux.resources.cpu.mems", GUEST, "numbers of the guest's memory nodes"),
    refused("linux.resources.cpu.realtimeRuntime", REALTIME),
    refused("linux.resources.cpu.realtimePeriod", REALTIME),

    refused("linux.resources.blockIO", NOT_YET),
    refused("linux.resources.hugepageLimits", NOT_YET),
    refused("linux.resources.network", NOT_YET),
    refused("linux.resources.rdma", NOT_YET),
];
