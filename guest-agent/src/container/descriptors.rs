//! The descriptors from 3 up that a program is given beside its standard streams.
//!
//! Owns their numbers. Runs in the process that is to become the program, before it
//! opens anything: what is opened later stays above them, and they stay open.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, fcntl};
use rustix::io::fcntl_dupfd_cloexec;

use crate::{
    failure::{Attempt, Failure},
    sys::close_all_except,
};

/// The first number after the standard streams.
const FIRST: RawFd = 3;

/// The first number that is not among those of `count` descriptors.
#[must_use]
pub(crate) fn first_after(count: usize) -> RawFd {
    FIRST.saturating_add(RawFd::try_from(count).unwrap_or(RawFd::MAX))
}

/// Gives the program `descriptors` as 3, 4 and so on, and closes everything else but
/// `keep`, which must have higher numbers.
///
/// # Errors
/// No descriptors left.
pub(crate) fn place(descriptors: &[OwnedFd], keep: &[RawFd]) -> Result<(), Failure> {
    let lowest = first_after(descriptors.len());
    let raised = descriptors
        .iter()
        .map(|one| raised(one, lowest))
        .collect::<Result<Vec<_>, _>>()?;
    let mut kept: Vec<RawFd> = raised.iter().map(AsRawFd::as_raw_fd).collect();
    kept.extend(keep);
    close_all_except(&kept);
    for one in &raised {
        // The lowest free number, which is the next one.
        fcntl(one, FcntlArg::F_DUPFD(FIRST)).step("place a descriptor")?;
    }
    Ok(())
}

/// Duplicates the descriptor to a number from `lowest` up, with close-on-exec.
///
/// # Errors
/// No descriptors left.
pub(crate) fn raised(descriptor: &impl AsFd, lowest: RawFd) -> Result<OwnedFd, Failure> {
    fcntl_dupfd_cloexec(descriptor, lowest).step("move a descriptor")
}
