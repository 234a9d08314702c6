//! `run`: creates and starts a container, and in the foreground waits for it.

use crate::cli::create::Common;
use crate::cli::{Caller, Outcome};
use crate::container::create;
use crate::container::create::Creation;
use crate::container::handle::{Container, Error};
use crate::container::signals::BlockedSignals;
use crate::container::store;
use crate::container::terminal::RawMode;
use crate::owner::OwnerChild;
use crate::process::pidfd::Pidfd;

/// Create a container and run its program
///
/// In the foreground, standard streams and signals are the container's, and the exit
/// status is its own: 128 plus the number for one that a signal has ended. Afterwards
/// the container is removed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  caisson run --bundle /b web1                             in the foreground
  caisson run --detach --bundle /b --pid-file pid web1     in the background")]
pub(super) struct Run {
    #[command(flatten)]
    common: Common,
    /// Leave the container running and return
    #[arg(long, short)]
    detach: bool,
    /// Do not remove the container after its exit
    #[arg(long)]
    keep: bool,
    /// Accepted for compatibility: nothing is reaped here
    #[arg(long)]
    no_subreaper: bool,
}

impl Run {
    pub(super) fn run(self, caller: &Caller) -> Outcome {
        let foreground = !self.detach;
        let creation = Creation {
            warn_on_stderr: true,
            ..self.common.creation(caller, foreground)?
        };
        let introduce = |owner: &OwnerChild| self.common.introduce(owner.pid());
        if self.detach {
            let (container, owner) = create::create(&caller.store, &creation)?;
            start(&container, &owner, caller, introduce)?;
            return Ok(0);
        }
        let (container, status) = in_foreground(&creation, caller, introduce)?;
        if !self.keep {
            container.delete(true, &caller.log)?;
        }
        status
    }
}

/// What a caller learns of a started container.
type Introduced = Result<(), Box<dyn std::error::Error>>;

/// Creates and starts a container, and stays until its end. Returns its exit status.
pub(super) fn in_foreground(
    creation: &Creation,
    caller: &Caller,
    introduce: impl FnOnce(&OwnerChild) -> Introduced,
) -> Result<(Container, Outcome), Box<dyn std::error::Error>> {
    let (container, owner) = create::create(&caller.store, creation)?;
    // Until here a signal ends this command, and its container with it.
    let signals = BlockedSignals::begin()?;
    start(&container, &owner, caller, introduce)?;
    let process = &container.record().process;
    let terminal = process["terminal"].as_bool().unwrap_or(false);
    let status = stay(owner, signals, terminal);
    Ok((container, status))
}

/// Starts a created container; where that fails it is deleted.
fn start(
    container: &Container,
    owner: &OwnerChild,
    caller: &Caller,
    introduce: impl FnOnce(&OwnerChild) -> Introduced,
) -> Introduced {
    let started = container.start(&caller.log);
    let started = started.map_err(Into::into).and_then(|()| introduce(owner));
    if started.is_err() {
        delete(container, caller)?;
    }
    started
}

/// Unless it is deleted already, as after a failed poststart hook.
fn delete(container: &Container, caller: &Caller) -> Result<(), Error> {
    match container.delete(true, &caller.log) {
        Err(Error::Store(store::Error::NotExist(_))) => Ok(()),
        deleted => deleted,
    }
}

/// Stands by until the container ends; signals go to the process that stands
/// for it, which passes them on.
fn stay(owner: OwnerChild, signals: BlockedSignals, terminal: bool) -> Outcome {
    let raw_mode = if terminal { RawMode::enter() } else { None };
    let process = Pidfd::of(owner.pid())?;
    signals.forward(move |signal| {
        // One for which there is no room now says nothing of the next.
        process.signal(signal).ok();
        true
    })?;
    let ended = owner.wait()?;
    drop(raw_mode);
    Ok(ended)
}
