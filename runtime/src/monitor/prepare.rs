//! What the process that holds a container does before the container is created, whether
//! it is a monitor or joins another's VM.
//!
//! Owns the hooks of its namespaces, its terminal, and its letting go of the caller.

use crate::container::creator;
use crate::container::stdio::HostStdio;
use crate::container::stdio::release_standard_streams;
use crate::container::terminal::Pty;
use crate::hooks::{self, HookKind};
use crate::monitor::create_request::CreateRequest;
use crate::monitor::create_request::CreatorRequest;
use crate::monitor::error::Error;
use crate::owner::Connection;
use crate::process::step;

/// What hooks mount or put into the namespaces is there before the machine is.
pub(crate) fn run_hooks(order: &CreateRequest, caller: &Connection) -> Result<(), Error> {
    if order.record.hooks.has_runtime_hooks() {
        creator::ask(caller, CreatorRequest::RunHooks).map_err(Error::CreatorRequest)?;
    }
    let pid = nix::unistd::getpid().as_raw();
    Ok(hooks::run(HookKind::CreateContainer, &order.record, pid)?)
}

/// With a console socket the terminal is made here and its master given away;
/// without, the caller's own streams and terminal are used as they are.
pub(crate) fn open_terminal(order: &CreateRequest) -> Result<Option<Pty>, Error> {
    if !order.plan.terminal {
        return Ok(None);
    }
    let pty = match &order.console_socket {
        Some(socket) => {
            Pty::send_fd(socket, &order.record.process).map_err(|source| Error::ConsoleSocket {
                path: socket.clone(),
                source,
            })?
        }
        None => Pty::inherited().map_err(step("use this terminal"))?,
    };
    Ok(Some(pty))
}

pub(crate) fn host_stdio(terminal: Option<&Pty>) -> Result<HostStdio, Error> {
    match terminal {
        Some(pty) => pty.stdio(),
        None => HostStdio::inherited(),
    }
    .map_err(step("take over standard streams"))
    .map_err(Into::into)
}

/// This process lives on: it must hold neither the caller's directory nor its streams.
/// Those that it copies to are open once more, and closed when the guest closes them.
pub(crate) fn release_caller() -> Result<(), Error> {
    std::env::set_current_dir("/").map_err(step("change to /"))?;
    release_standard_streams()
        .map_err(step("close standard streams"))
        .map_err(Into::into)
}
