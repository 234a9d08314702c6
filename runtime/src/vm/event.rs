//! What the process that holds a VM waits for.

use std::os::unix::net::UnixStream;

use caisson_protocol::client::agent::event::Kind as AgentEvent;
use caisson_vmm::control::Exit;

use super::agent_error;
use crate::process::program::Ending;

/// Everything that can happen to a VM, and to the process that holds it.
pub(crate) enum Event {
    /// A signal has reached this process.
    Signal(i32),
    /// The command that gave the order is gone, as it is once it has its answer.
    CallerGone,
    /// The agent has opened its control connection.
    AgentConnected(UnixStream),
    /// The agent has told something.
    Agent(AgentEvent),
    /// The machine has ended.
    MachineEnded(Exit),
    /// The file server has ended; how, and its last words.
    FileServerEnded(Ending),
    /// The agent's connection is of no use any more, and there will be no other.
    AgentGone(agent_error::Error),
    /// The container has closed its standard error, or the machine is gone.
    ErrorsEnded,
    /// The container goes on, but somebody should know.
    Warning(String),
}
