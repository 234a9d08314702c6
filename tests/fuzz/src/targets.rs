//! The list of targets. Each is in the crate whose code it tries.

use crate::Target;

/// All of them, in the order in which they run.
pub const TARGETS: &[Target] = &[Target {
    name: "vsock-packets",
    run: caisson_vmm::fuzz::vsock_packets,
}];
