//! The list of targets. Each is in the crate whose code it tries.

use caisson::fuzz as owner;
use caisson_vmm::fuzz as vmm;

use crate::Target;

/// All of them, in the order in which they run.
pub const TARGETS: &[Target] = &[
    target("vsock-packets", vmm::vsock_packets),
    target("register-writes", vmm::register_writes),
    target("balloon-queues", vmm::balloon_queues),
    target("block-queues", vmm::block_queues),
    target("console-queues", vmm::console_queues),
    target("net-queues", vmm::net_queues),
    target("rng-queues", vmm::rng_queues),
    target("vsock-queues", vmm::vsock_queues),
    target("kernel-image", vmm::kernel_image),
    target("agent-answers", owner::answers),
    target("agent-frames", owner::frames),
    target("name-questions", owner::questions),
    target("owner-requests", owner::requests),
    target("configuration", owner::configuration),
    target("netlink-packets", caisson_netlink::try_packet),
];

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}
