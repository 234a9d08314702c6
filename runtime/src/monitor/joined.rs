//! The life of a process that stands for one more container in a machine that
//! another owner holds.
//!
//! Owns what is this container's alone on the host: its namespaces, hooks, shares
//! and streams. The machine, and the answers to commands, are the other owner's.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::container::session::{Ends, LateOutput, Session};
use crate::container::signals::BlockedSignals;
use crate::container::stdio;
use crate::container::store::Store;
use crate::container::terminal::Pty;
use crate::log::{Level, Log};
use crate::monitor::error::Error;
use crate::monitor::prepare::{host_stdio, open_terminal, release_caller, run_hooks};
use crate::monitor::state_lock::StateDirectory;
use crate::monitor::{CreateRequest, MonitorMessage, Outcome, mount_point, mount_view, namespaces};
use crate::owner;
use crate::owner::wire::MAX_DESCRIPTORS;
use crate::owner::{Connection, GuestTerminal, JoinRequest, KILLED, OfferedShare, Request};
use crate::process::step;
use crate::process::thread;
use crate::vm::fs_daemon;

/// Carries the order out, and returns the exit status of this process.
pub(crate) fn run(
    order: &CreateRequest,
    socket: &Path,
    log: &Log,
    caller: Connection,
    directory: StateDirectory,
) -> u8 {
    let begun = match begin(order, socket, &caller, &directory) {
        Ok(session) => session,
        Err(err) => {
            let message = crate::log::error_line::chain(&err);
            // Who is told puts everything away; no one else would.
            if caller
                .send(&MonitorMessage::Outcome(Outcome::Failed { message }), &[])
                .is_err()
            {
                directory.remove();
            }
            return 1;
        }
    };
    for warning in &order.plan.warnings {
        log.write_if_file(Level::Warning, warning);
    }
    if caller
        .send(&MonitorMessage::Outcome(Outcome::Created), &[])
        .is_err()
    {
        // Nobody wants it any more; the machine's owner ends what hangs up, and who
        // deletes it puts it away.
        drop(begun);
        return KILLED;
    }
    drop(directory);
    if order.bound {
        let connection = begun.connection();
        let work = move || {
            // It says nothing more: this ends with the caller.
            caller.receive::<serde_json::Value>().ok();
            if let Ok(connection) = connection {
                connection.hang_up();
            }
        };
        thread::spawn("caller", 64, work).ok();
    } else {
        drop(caller);
    }
    begun.finish(LateOutput::Dropped, log).unwrap_or(KILLED)
}

fn begin(
    order: &CreateRequest,
    socket: &Path,
    caller: &Connection,
    directory: &StateDirectory,
) -> Result<Session, Error> {
    let own_session = nix::unistd::setsid();
    own_session.map_err(|errno| step("make a session")(errno.into()))?;
    let signals = BlockedSignals::begin().map_err(step("hold signals back"))?;
    namespaces::enter(&order.plan, caller)?;
    run_hooks(order, caller)?;
    let new_points = mount_point::make(&order.record.rootfs, &order.plan.mount_points)?;
    directory.assert_own()?;
    let entry = Store::new(&order.root)?.entry(&order.id)?;
    let listener = owner::listen(&entry.socket()).map_err(step("listen for commands"))?;
    let (shares, trees) = cut_out(order)?;
    let pty = open_terminal(order)?;
    let host = host_stdio(pty.as_ref())?;
    let terminal = pty.as_ref().map_or(GuestTerminal::None, Pty::in_guest);
    let stdin = stdio::has_input(&host.stdin);
    let request = JoinRequest {
        container: order.for_guest(&new_points),
        shares,
        terminal,
        stdin,
    };
    let connection = ask(socket, request, &listener, &trees)?;
    let ends = Ends {
        pty,
        host,
        descriptors: Vec::new(),
    };
    let session = Session::follow(connection, ends, terminal, stdin, signals)
        .map_err(|err| Error::Join(crate::log::error_line::chain(&err)))?;
    entry.write(&order.record.owned_by_this_process())?;
    release_caller()?;
    mount_view::enter(&order.plan, &order.record.rootfs)?;
    Ok(session)
}

/// The shares, and their mounts in the same order.
type Shares = (Vec<OfferedShare>, Vec<OwnedFd>);

fn cut_out(order: &CreateRequest) -> Result<Shares, Error> {
    let mut shares = (Vec::new(), Vec::new());
    for share in &order.plan.shares {
        let cut = fs_daemon::cut_out(share)?;
        shares.0.push(cut.share);
        shares.1.push(cut.tree);
    }
    // The socket is one more.
    if shares.1.len() < MAX_DESCRIPTORS {
        return Ok(shares);
    }
    Err(Error::Join(format!(
        "a container that joins a machine has less than {MAX_DESCRIPTORS} bind mounts, not {}",
        shares.1.len()
    )))
}

fn ask(
    socket: &Path,
    request: JoinRequest,
    listener: &UnixListener,
    trees: &[OwnedFd],
) -> Result<Connection, Error> {
    let failed = |err: owner::Error| {
        Error::Join(match err {
            owner::Error::Closed => "the first container of the group has stopped".to_owned(),
            other => crate::log::error_line::chain(&other),
        })
    };
    let connection = owner::connect(socket).map_err(failed)?;
    let numbers: Vec<_> = [listener.as_raw_fd()]
        .into_iter()
        .chain(trees.iter().map(AsRawFd::as_raw_fd))
        .collect();
    let request = Request::Join(Box::new(request));
    connection.send(&request, &numbers).map_err(failed)?;
    Ok(connection)
}
