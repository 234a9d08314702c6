//! Holds the sandbox to its limits on the host, from boot on and live.

use oci_spec::runtime::LinuxResources;

use super::Order;
use super::error::Error;
use crate::cgroup::{self, Allowance, Group};
use crate::log::Log;
use crate::machine::{Choice, Kind};

/// The limits of one sandbox; none where it has no cgroup of its own.
pub(crate) struct Limits<'a> {
    group: Option<&'a Group>,
    allowance: Allowance,
    resources: &'a LinuxResources,
}

impl<'a> Limits<'a> {
    pub(crate) fn of(order: &'a Order, choice: &Choice) -> Self {
        Self {
            group: order.record.cgroup.as_ref(),
            allowance: Allowance {
                mem_mib: order.plan.mem_mib,
                emulated: choice.kind != Kind::Kvm,
            },
            resources: &order.plan.resources,
        }
    }

    /// All but the CPU quota, which would make the boot slow.
    pub(crate) fn set(&self, log: &Log) -> Result<(), Error> {
        self.write(log, |version| {
            cgroup::settings(self.resources, self.allowance, version)
        })
    }

    /// The CPU quota, once the container's own time begins.
    pub(crate) fn hold_to_quota(&self, log: &Log) -> Result<(), Error> {
        self.write(log, |version| cgroup::quota(self.resources, version))
    }

    fn write(
        &self,
        log: &Log,
        settings: impl FnOnce(cgroup::Version) -> Vec<cgroup::Setting>,
    ) -> Result<(), Error> {
        let Some(group) = self.group else {
            return Ok(());
        };
        for unset in group.limit(&settings(group.version))? {
            log.debug(&format!("the guest alone keeps a limit: {unset}"));
        }
        Ok(())
    }
}
