//! The agent of the guest: PID 1, which makes containers for the host.
//!
//! Owns everything inside the machine. Trusts the host, and no container. One
//! thread: it forks without exec, which only a program of one thread may do. The
//! binary boots a machine and then calls [`run`].

pub mod boot;
pub mod failure;
pub mod transport;

mod arch;
mod cache_reclaim;
mod cgroup;
mod container;
mod events;
mod guest;
mod listing;
mod network;
mod notify;
mod oom;
mod process;
mod reaper;
mod server;
mod service;
mod shares;
mod stdio;
mod stream;
mod sys;

use std::sync::Arc;

use caisson_protocol::CONTROL_PORT;

use crate::{
    failure::{Attempt, Failure},
    guest::Guest,
    transport::Transport,
};

/// Connects to the host and serves it. Between the two, `prepare` prepares the machine
/// for containers, while the host accepts the connection.
///
/// # Errors
/// Why the agent can't serve; it never returns otherwise.
pub async fn run(
    transport: Transport,
    prepare: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let ended = reaper::children_ended()?;
    let connection = transport
        .connect(CONTROL_PORT)
        .await
        .step("connect to the host")?;
    prepare()?;
    let guest = Arc::new(Guest::new(transport.clone()));
    let serving = server::serve(Arc::clone(&guest), transport, connection);
    tokio::select! {
        () = guest.record_exits(ended) => Ok(()),
        served = serving => served.map_err(|error| Failure::Refused(error.to_string())),
    }
}
