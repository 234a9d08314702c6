//! The hidden verb that a container's owner is started with.

use std::os::unix::net::UnixStream;

use super::Outcome;
use crate::container::ORDER_DESCRIPTOR;
use crate::owner::Connection;
use crate::sandbox::{self, Order};
use crate::sys;

pub(super) fn monitor() -> Outcome {
    let caller = Connection::from(UnixStream::from(sys::adopt(ORDER_DESCRIPTOR)));
    let (order, _) = caller.receive::<Order>()?;
    Ok(sandbox::run(&order, caller))
}
