//! Starts the owner's threads, each with a stack of the size it needs: there are
//! a dozen of them per container, and most only wait. Owns how those that take
//! connections go on when they can't.

use std::io;
use std::time::Duration;

use crate::process::error::{Error, step};

/// Descriptors that have run out do not come back at once.
const RETRY: Duration = Duration::from_millis(100);

/// Runs `work` in a thread of its own, with a stack of `stack_kib` KiB.
pub(crate) fn spawn(
    name: &str,
    stack_kib: usize,
    work: impl FnOnce() + Send + 'static,
) -> Result<(), Error> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(stack_kib * 1024)
        .spawn(work)
        .map(drop)
        .map_err(step("start a thread"))
}

/// Hands on what arrives; what can't be taken now is taken later.
pub(crate) fn take_each<T>(arriving: impl Iterator<Item = io::Result<T>>, mut take: impl FnMut(T)) {
    for arrived in arriving {
        match arrived {
            Ok(one) => take(one),
            // Nothing tells when there are some again.
            Err(_) => std::thread::park_timeout(RETRY),
        }
    }
}
