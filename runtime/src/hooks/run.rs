//! Runs hooks: state on standard input, working directory, environment, time limit.
//!
//! Input and output are files in memory, so a hook that leaves a process behind,
//! or writes more than anyone reads, holds nobody up.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::container::store::Record;
use crate::hooks::list::{Hook, HookKind};
use crate::log::error_line::chain;
use crate::log::{Level, Log};
use crate::process::memfd::memory_file;
use crate::process::pidfd::Pidfd;
use crate::sys;

/// As much of a failed hook's output is quoted in the error line.
const QUOTED_BYTES: u64 = 1024;

/// A hook that failed. The text is runc's.
#[derive(Debug, thiserror::Error)]
#[error("error running {kind} hook #{index}")]
pub struct Error {
    kind: &'static str,
    index: usize,
    #[source]
    failure: Failure,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("start {path}")]
    Start {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("hook ran past specified timeout of {:.1}s", limit.as_secs_f64())]
    Late { limit: Duration },
    #[error("{status}, stdout: {stdout}, stderr: {stderr}")]
    Status {
        status: ExitStatus,
        stdout: String,
        stderr: String,
    },
    #[error("prepare the hook")]
    Prepare(#[source] io::Error),
}

/// Runs the hooks of one kind in their order, with `pid` as the container's.
///
/// # Errors
/// The first that fails; those after it are not run.
pub fn run(kind: HookKind, record: &Record, pid: i32) -> Result<(), Error> {
    let hooks = record.hooks.of(kind).iter().enumerate();
    for (index, hook) in hooks {
        run_one(kind, record, pid, hook).map_err(|failure| Error {
            kind: kind.name(),
            index,
            failure,
        })?;
    }
    Ok(())
}

/// Runs every poststop hook, whatever becomes of the others; a failure is logged and
/// nothing else (runtime-spec, runtime.md#lifecycle).
pub fn run_poststop(record: &Record, log: &Log) {
    for err in failures_of_poststop(record) {
        log.write(Level::Warning, &chain(&err));
    }
}

fn failures_of_poststop(record: &Record) -> Vec<Error> {
    let kind = HookKind::Poststop;
    let hooks = record.hooks.of(kind).iter().enumerate();
    hooks
        .filter_map(|(index, hook)| {
            let failure = run_one(kind, record, 0, hook).err()?;
            Some(Error {
                kind: kind.name(),
                index,
                failure,
            })
        })
        .collect()
}

/// What a hook reads (runtime-spec, runtime.md#state). The `pid` is left out if it
/// is 0.
#[must_use]
pub fn state(status: &str, record: &Record, pid: i32) -> Value {
    let mut state = json!({
        "ociVersion": record.oci_version,
        "id": record.id,
        "status": status,
        "bundle": record.bundle,
    });
    if pid != 0 {
        state["pid"] = pid.into();
    }
    if !record.annotations.is_empty() {
        state["annotations"] = json!(record.annotations);
    }
    state
}

fn run_one(kind: HookKind, record: &Record, pid: i32, hook: &Hook) -> Result<(), Failure> {
    let state = state(kind.status(), record, pid).to_string();
    let files = Files::new(&state).map_err(Failure::Prepare)?;
    let mut command = command(hook, &record.bundle);
    files.attach(&mut command).map_err(Failure::Prepare)?;
    let mut child = command.spawn().map_err(|source| Failure::Start {
        path: hook.path.display().to_string(),
        source,
    })?;
    let status = end_of(&mut child, hook.limit)?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Status {
        status,
        stdout: quote(files.stdout),
        stderr: quote(files.stderr),
    })
}

/// The standard streams of one hook.
struct Files {
    stdin: File,
    stdout: File,
    stderr: File,
}

impl Files {
    fn new(state: &str) -> io::Result<Self> {
        Ok(Self {
            stdin: memory_file(c"state", state.as_bytes())?,
            stdout: memory_file(c"stdout", b"")?,
            stderr: memory_file(c"stderr", b"")?,
        })
    }

    fn attach(&self, command: &mut Command) -> io::Result<()> {
        command.stdin(self.stdin.try_clone()?);
        command.stdout(self.stdout.try_clone()?);
        command.stderr(self.stderr.try_clone()?);
        Ok(())
    }
}

fn command(hook: &Hook, bundle: &Path) -> Command {
    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    if let Some(env) = &hook.env {
        command
            .env_clear()
            .envs(env.iter().map(|(name, value)| (name, value)));
    }
    command
        .current_dir(bundle)
        // Its own group, to be killed with whatever it has started.
        .process_group(0);
    sys::die_with_parent(&mut command);
    command
}

fn end_of(child: &mut Child, limit: Option<Duration>) -> Result<ExitStatus, Failure> {
    let process = Pidfd::of_child(child).map_err(Failure::Prepare)?;
    if let Some(limit) = limit.filter(|limit| !process.ends_within(*limit)) {
        kill_group(child);
        child.wait().map_err(Failure::Prepare)?;
        return Err(Failure::Late { limit });
    }
    child.wait().map_err(Failure::Prepare)
}

/// Not reaped yet, so the number is still its own.
fn kill_group(child: &Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        killpg(Pid::from_raw(pid), Signal::SIGKILL).ok();
    }
}

/// The end of what it wrote, as part of one line.
fn quote(mut file: File) -> String {
    let mut bytes = Vec::new();
    let length = file.metadata().map_or(0, |file| file.len());
    let begin = length.saturating_sub(QUOTED_BYTES);
    let read = file
        .seek(SeekFrom::Start(begin))
        .and_then(|_| file.take(QUOTED_BYTES).read_to_end(&mut bytes));
    drop(read);
    String::from_utf8_lossy(&bytes).trim_end().to_owned()
}

#[cfg(test)]
#[path = "run_test.rs"]
mod tests;
