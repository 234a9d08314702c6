//! The hidden verb that a container's owner is started with.

use crate::cgroup::Group;
use crate::cli::Outcome;
use crate::monitor;
use crate::monitor::CreateRequest;
use crate::owner;

pub(super) fn monitor() -> Outcome {
    let caller = owner::caller();
    // What the command begins to make before it gives its order.
    let mut cgroup: Option<Group> = None;
    let ordered = caller.receive().and_then(|(announced, _)| {
        cgroup = announced;
        caller.receive::<CreateRequest>()
    });
    match ordered {
        Ok((order, descriptors)) => Ok(monitor::run(&order, descriptors, caller)),
        // The command has failed by itself, and says so, or was killed.
        Err(owner::Error::Closed) => {
            cgroup.iter().for_each(Group::abandon);
            Ok(1)
        }
        Err(err) => Err(err.into()),
    }
}
