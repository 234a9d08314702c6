//! What a container's owner has done for it by the command that creates it:
//! the command stays outside of the owner's namespaces.
//!
//! Owns both ends of the conversation that runs between the order and its
//! outcome. A command that fails in an errand hangs up, and the owner ends.

use serde::{Deserialize, Serialize};

use crate::hooks;
use crate::hooks::HookKind;
use crate::host::identity;
use crate::monitor::create_request::{CreateRequest, CreatorRequest, MonitorMessage, Outcome};
use crate::owner;
use crate::owner::Connection;

/// The command's answer: the errand is done.
#[derive(Debug, Serialize, Deserialize)]
struct Done;

/// Asks for an errand and waits until it is done. Called by the owner.
///
/// # Errors
/// When the command has failed, or is gone.
pub(crate) fn ask(caller: &Connection, errand: CreatorRequest) -> Result<(), owner::Error> {
    caller.send(&MonitorMessage::CreatorRequest(errand), &[])?;
    caller.receive::<Done>().map(drop)
}

/// What can end a conversation without an outcome.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The conversation broke.
    #[error(transparent)]
    Owner(#[from] owner::Error),
    /// Ids could not be mapped.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// A hook failed.
    #[error(transparent)]
    Hook(#[from] hooks::Error),
}

/// Runs errands for the owner, a process of number `pid`, until it tells the
/// outcome. Called by the command.
///
/// # Errors
/// When an errand fails or the owner is gone.
pub(crate) fn run_until_outcome(
    owner: &Connection,
    order: &CreateRequest,
    pid: i32,
) -> Result<Outcome, Error> {
    loop {
        match owner.receive::<MonitorMessage>()?.0 {
            MonitorMessage::CreatorRequest(errand) => {
                run(errand, order, pid)?;
                owner.send(&Done, &[])?;
            }
            MonitorMessage::Outcome(outcome) => return Ok(outcome),
        }
    }
}

fn run(errand: CreatorRequest, order: &CreateRequest, pid: i32) -> Result<(), Error> {
    match errand {
        CreatorRequest::RunHooks => {
            for kind in [HookKind::Prestart, HookKind::CreateRuntime] {
                hooks::run(kind, &order.record, pid)?;
            }
            Ok(())
        }
        CreatorRequest::MapIdentities => {
            let mut identities = order.plan.identities.iter();
            Ok(identities.try_for_each(|identities| identities.write(pid))?)
        }
    }
}
