//! Resource limits of a process.
//!
//! Owns the mapping of names. Set by the agent from outside: inside a user
//! namespace hard limits can't be raised.

use nix::unistd::Pid;
use oci_spec::runtime::{PosixRlimit, PosixRlimitType};
use rustix::process::{Resource, Rlimit, prlimit};

use crate::failure::{Errno, Failure};

/// Sets the limits of another process.
///
/// # Errors
/// [`Failure::Refused`] for a kind that is given twice (runtime-spec config.md,
/// "rlimits") or that the kernel refuses.
pub(crate) fn set(pid: Pid, limits: &[PosixRlimit]) -> Result<(), Failure> {
    let pid = rustix::process::Pid::from_raw(pid.as_raw());
    for (number, limit) in limits.iter().enumerate() {
        let kind = limit.typ();
        let mut earlier = limits.iter().take(number);
        if earlier.any(|earlier| earlier.typ() == kind) {
            return Err(Failure::Refused(format!(
                "process.rlimits: {kind} is given twice"
            )));
        }
        let value = Rlimit {
            current: finite(limit.soft()),
            maximum: finite(limit.hard()),
        };
        prlimit(pid, resource(kind), value).map_err(|errno| {
            let reason = Errno::from(errno);
            Failure::Refused(format!("error setting rlimit type {kind}: {reason}"))
        })?;
    }
    Ok(())
}

const fn finite(limit: u64) -> Option<u64> {
    match limit {
        u64::MAX => None,
        limit => Some(limit),
    }
}

const fn resource(kind: PosixRlimitType) -> Resource {
    match kind {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    }
}
