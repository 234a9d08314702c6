//! The list of targets. Each is in the crate whose code it tries.

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
];

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}
