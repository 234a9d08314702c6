//! What a process may do and use: limits, capabilities, securebits, tracing.

use nix::sched::{CloneFlags, unshare};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits,
    set_no_new_privs,
};

use crate::error::{Error, Step};
use crate::sys;

/// Fails if the process has more than one thread: forking, the environment and
/// user namespaces all need this.
pub(crate) fn require_one_thread() -> Result<(), Error> {
    // Changes nothing for a lone thread, and is refused for one of several.
    unshare(CloneFlags::CLONE_THREAD).map_err(Step::RequireOneThread.refused())
}

/// Forgets the environment, which may hold secrets of the caller.
pub(crate) fn clear_environment() -> Result<(), Error> {
    sys::clear_environment().map_err(Step::ClearEnvironment.refused())
}

/// No core files, at most `open_files` descriptors.
pub(crate) fn set_limits(open_files: u64) -> Result<(), Error> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).map_err(Step::SetLimit("core").refused())?;
    let wanted = Rlimit {
        current: Some(open_files),
        maximum: Some(open_files),
    };
    setrlimit(Resource::Nofile, wanted)
        .or_else(|e| match e {
            Errno::PERM => keep_hard_limit_of_open_files(),
            e => Err(e),
        })
        .map_err(Step::SetLimit("nofile").refused())
}

/// Raising the hard limit needs CAP_SYS_RESOURCE in the initial user namespace,
/// which a caller inside a container lacks.
fn keep_hard_limit_of_open_files() -> Result<(), Errno> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )
}

/// Leaves only `kept` of the capabilities in the own user namespace, without any
/// way to gain others, and closes the process to tracing by its own kind.
pub(crate) fn drop_all_but(kept: CapabilitySet) -> Result<(), Error> {
    set_capabilities_secure_bits(
        CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED
            | CapabilitiesSecureBits::KEEP_CAPS_LOCKED,
    )
    .map_err(Step::LockSecurebits.refused())?;
    drop_bounding_set().map_err(Step::DropBoundingSet.refused())?;
    clear_ambient_capability_set().map_err(Step::DropAmbientSet.refused())?;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(Step::DropCapabilities.refused())?;
    set_no_new_privs(true).map_err(Step::ForbidNewPrivileges.refused())?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(Step::ForbidTracing.refused())
}

/// Every number there can be, so that none of a newer kernel is left.
fn drop_bounding_set() -> Result<(), Errno> {
    for number in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            Err(Errno::INVAL) => break,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
