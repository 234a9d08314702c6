//! The command line: the verbs and flags of runc, one file per verb.
//!
//! Owns parsing, the one error line and the exit code; no policy. Exit codes:
//! 0 success, 1 failure, 255 failure of `exec`, and of `run` where the program was
//! found and can't be executed; `run` and `exec` in the foreground end with the status of the process, 128 plus the signal if one
//! ended it.

mod arguments;
mod checkpoint;
mod console;
mod create;
mod delete;
mod doctor;
mod events;
mod exec;
mod features;
mod global;
mod kill;
mod list;
mod monitor;
mod outcome;
mod pause;
mod ps;
mod ps_columns;
mod restore;
mod run;
mod sandbox;
mod setup;
mod sizes;
mod spec;
mod start;
mod state;
mod update;

use std::error::Error;
use std::ffi::OsString;
use std::io::Write;

use clap::{CommandFactory, Parser};

use crate::log::error_line::chain;

pub(crate) use global::{Caller, Global};
pub(crate) use outcome::{Outcome, failed, print};

/// OCI container runtime that gives every container its own kernel in a
/// lightweight virtual machine
#[derive(Debug, Parser)]
#[command(
    name = "caisson",
    disable_version_flag = true,
    args_override_self = true
)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Create(create::Create),
    Start(start::Start),
    Run(run::Run),
    Exec(exec::Exec),
    Kill(kill::Kill),
    Delete(delete::Delete),
    State(state::State),
    List(list::List),
    Ps(ps::Ps),
    Pause(pause::Pause),
    Resume(pause::Resume),
    Update(update::Update),
    Events(events::Events),
    Console(console::Console),
    Checkpoint(checkpoint::Checkpoint),
    Restore(restore::Restore),
    Spec(spec::Spec),
    Features(features::Features),
    Sandbox(sandbox::Sandbox),
    Setup(setup::Setup),
    Doctor(doctor::Doctor),
    /// Owns a container's machine; started by create, not by hand
    #[command(hide = true)]
    Monitor(Title),
    /// Stands for a detached exec; started by exec, not by hand
    #[command(hide = true)]
    ExecOwner(Title),
    /// Copies what is written after an exec's end; started by exec, not by hand
    #[command(hide = true)]
    ExecRelay,
}

/// What users of ps see behind the verb; says nothing to this program.
#[derive(Debug, clap::Args)]
struct Title {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// What a process ends with that should have become another program, with runc.
const NOT_EXECUTED: u8 = 255;

/// Returns the definition of the command line, for man pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs one command, and returns the exit code.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments = arguments::normalized(arguments.into_iter().collect());
    let parsed = match Arguments::try_parse_from(arguments) {
        Ok(parsed) => parsed,
        Err(err) => {
            err.print().ok();
            return u8::from(err.use_stderr());
        }
    };
    let Arguments { global, verb } = parsed;
    let failure_code = if matches!(verb, Some(Verb::Exec(_))) {
        NOT_EXECUTED
    } else {
        1
    };
    let is_run = matches!(verb, Some(Verb::Run(_) | Verb::Sandbox(_)));
    let caller = match Caller::new(global) {
        Ok(caller) => caller,
        Err(err) => return print_error(&*err, failure_code),
    };
    match dispatch(&caller, verb) {
        Ok(status) => status,
        Err(err) => {
            let message = chain(&*err);
            if caller.log.has_file() {
                caller.log.write(crate::log::Level::Error, &message);
            }
            let is_not_executed = matches!(
                err.downcast_ref(),
                Some(crate::container::handle::Error::NotExecuted(_))
            );
            let code = if is_run && is_not_executed {
                NOT_EXECUTED
            } else {
                failure_code
            };
            print_error(&*err, code)
        }
    }
}

fn dispatch(caller: &Caller, verb: Option<Verb>) -> Outcome {
    match verb {
        Some(Verb::Create(verb)) => verb.run(caller),
        Some(Verb::Start(verb)) => verb.run(caller),
        Some(Verb::Run(verb)) => verb.run(caller),
        Some(Verb::Exec(verb)) => verb.run(caller),
        Some(Verb::Kill(verb)) => verb.run(caller),
        Some(Verb::Delete(verb)) => verb.run(caller),
        Some(Verb::State(verb)) => verb.run(caller),
        Some(Verb::List(verb)) => verb.run(caller),
        Some(Verb::Ps(verb)) => verb.run(caller),
        Some(Verb::Pause(verb)) => verb.run(caller),
        Some(Verb::Resume(verb)) => verb.run(caller),
        Some(Verb::Update(verb)) => verb.run(caller),
        Some(Verb::Events(verb)) => verb.run(caller),
        Some(Verb::Console(verb)) => verb.run(caller),
        Some(Verb::Checkpoint(verb)) => verb.run(caller),
        Some(Verb::Restore(verb)) => verb.run(caller),
        Some(Verb::Spec(verb)) => verb.run(),
        Some(Verb::Features(verb)) => verb.run(),
        Some(Verb::Sandbox(verb)) => verb.run(caller),
        Some(Verb::Setup(verb)) => verb.run(),
        Some(Verb::Doctor(verb)) => verb.run(caller),
        Some(Verb::Monitor(_)) => monitor::monitor(),
        Some(Verb::ExecOwner(_)) => Ok(crate::container::detached_exec::run_proxy()?),
        Some(Verb::ExecRelay) => {
            crate::container::exec_relay::run_proxy()?;
            Ok(0)
        }
        None if caller.wants_version => global::print_version(),
        None => Err("no command given; see `caisson --help`".into()),
    }
}

fn print_error(error: &(dyn Error + 'static), code: u8) -> u8 {
    writeln!(std::io::stderr(), "caisson: {}", chain(error)).ok();
    code
}
