//! The hidden verb that a container's owner is started with.

use super::Outcome;
use crate::owner;
use crate::sandbox::{self, Order};

pub(super) fn monitor() -> Outcome {
    let caller = owner::caller();
    match caller.receive::<Order>() {
        Ok((order, descriptors)) => Ok(sandbox::run(&order, descriptors, caller)),
        // The command has failed by itself, and says so.
        Err(owner::Error::Closed) => Ok(1),
        Err(err) => Err(err.into()),
    }
}
