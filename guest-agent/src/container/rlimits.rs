//! Resource limits of a process.
//!
//! Owns the mapping of names. Set by the agent from outside: inside a user
//! namespace hard limits can't be raised.

use nix::unistd::Pid;
use oci_spec::runtime::{PosixRlimit, PosixRlimitType};
use rustix::process::{Resource, Rlimit, prlimit};

use crate::failure::{Attempt, Failure};

/// Sets the limits of another process.
///
/// # Errors
/// [`Failure::Refused`] for a kind Linux doesn't have; else the kernel's.
pub(crate) fn set(pid: Pid, limits: &[PosixRlimit]) -> Result<(), Failure> {
    let pid = rustix::process::Pid::from_raw(pid.as_raw());
    for limit in limits {
        let value = Rlimit {
            current: finite(limit.soft()),
            maximum: finite(limit.hard()),
        };
        prlimit(pid, resource(limit.typ())?, value).doing("set resource limits")?;
    }
    Ok(())
}

const fn finite(limit: u64) -> Option<u64> {
    match limit {
        u64::MAX => None,
        limit => Some(limit),
    }
}

fn resource(kind: PosixRlimitType) -> Result<Resource, Failure> {
    Ok(match kind {
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
    })
}
