//! Descriptors that the spawner of a process placed at agreed numbers.

use std::collections::BTreeSet;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Step};
use crate::sys;

static TAKEN: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// Takes the inherited descriptor `number` as this process's own; each can be
/// taken once. Called at the start, before the process opens anything itself,
/// for numbers from 3 upwards.
///
/// # Errors
/// [`Error::Refused`] if nothing is open there, [`Error::Taken`] the second time
/// and for the standard streams.
pub fn inherited(number: RawFd) -> Result<OwnedFd, Error> {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if number < 3 || taken.contains(&number) {
        return Err(Error::Taken(number));
    }
    let fd = sys::adopt(number).map_err(Step::TakeDescriptor(number).refused())?;
    taken.insert(number);
    Ok(fd)
}
