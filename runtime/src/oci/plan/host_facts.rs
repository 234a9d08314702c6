//! What the plan of a container depends on, beside its bundle.

use crate::cgroup;
use crate::config::annotations::Bounds;
use crate::host::identity::User;

/// What a plan depends on, beside the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// CPUs this process may run on.
    pub cpus: u8,
    /// The administrator's default memory, in MiB.
    pub default_mem_mib: Option<u32>,
    /// The administrator's default vCPUs.
    pub default_vcpus: Option<u8>,
    /// What the administrator lets containers choose among.
    pub bounds: Bounds,
    /// Who makes cgroups.
    pub cgroup_driver: cgroup::Driver,
    /// The user, unless it is root.
    pub user: Option<User>,
    /// Pids and names of the containers in whose machine this one shall be.
    pub group: Vec<(i32, String)>,
}
