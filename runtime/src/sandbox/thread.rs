//! Starts the owner's threads, each with a stack of the size it needs: there are
//! a dozen of them per container, and most only wait.

use super::error::{Error, step};

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
