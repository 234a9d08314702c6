//! The hooks of kind startContainer: programs of the container that run in it
//! just before its own (runtime-spec, config.md#posix-platform-hooks).
//!
//! Owns their running: state on standard input, environment, time limit. Input
//! and output are files in memory, so a hook that leaves a process behind, or
//! writes more than is read, delays nothing.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitStatus},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use oci_spec::runtime::{Hook, Spec};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{MemfdFlags, memfd_create},
    process::{PidfdFlags, pidfd_open},
};
use serde_json::Value;

use super::seccomp::Filter;
use crate::failure::{Errno, Failure};

/// What the hooks of one container have in common.
#[derive(Debug)]
pub(crate) struct StartHooks<'a> {
    /// In their order.
    hooks: &'a [Hook],
    /// What each reads, without the pid.
    state: &'a [u8],
}

impl<'a> StartHooks<'a> {
    /// The hooks of a configuration. `state` is the container's state (runtime-spec,
    /// runtime.md#state) as JSON.
    #[must_use]
    pub(crate) fn of(spec: &'a Spec, state: &'a [u8]) -> Self {
        let hooks = spec.hooks().as_ref();
        let hooks = hooks.and_then(|hooks| hooks.start_container().as_deref());
        Self {
            hooks: hooks.unwrap_or_default(),
            state,
        }
    }

    /// Runs them with the privileges and the working directory of this process, which is
    /// the container's, and with its `environment` where a hook has none of its own.
    /// `filter` is applied to the hooks: this process is not under it yet.
    ///
    /// # Errors
    /// [`Failure::Refused`] for the first that fails, in the host's words; those
    /// after it are not run.
    pub(crate) fn run(
        &self,
        environment: &[String],
        filter: Option<&Filter>,
    ) -> Result<(), Failure> {
        if self.hooks.is_empty() {
            return Ok(());
        }
        let state = state_with_pid(self.state)?;
        for (index, hook) in self.hooks.iter().enumerate() {
            run_one(hook, &state, environment, filter).map_err(|reason| {
                Failure::Refused(format!(
                    "error running startContainer hook #{index}: {reason}"
                ))
            })?;
        }
        Ok(())
    }
}

/// The pid that the container itself sees.
fn state_with_pid(state: &[u8]) -> Result<Vec<u8>, Failure> {
    let json = |cause| Failure::Json {
        what: "state",
        cause,
    };
    let mut state: Value = serde_json::from_slice(state).map_err(json)?;
    state["pid"] = std::process::id().into();
    serde_json::to_vec(&state).map_err(json)
}

fn run_one(
    hook: &Hook,
    state: &[u8],
    environment: &[String],
    filter: Option<&Filter>,
) -> Result<(), String> {
    let prepare = |error: std::io::Error| format!("prepare the hook: {}", Errno::from(error));
    let mut stdin = memory_file().map_err(prepare)?;
    stdin.write_all(state).map_err(prepare)?;
    stdin.rewind().map_err(prepare)?;
    let [stdout, stderr] = [
        memory_file().map_err(prepare)?,
        memory_file().map_err(prepare)?,
    ];
    let mut command = command(hook, environment);
    command.stdin(stdin);
    command.stdout(stdout.try_clone().map_err(prepare)?);
    command.stderr(stderr.try_clone().map_err(prepare)?);
    if let Some(filter) = filter {
        filter.install_in(&mut command);
    }
    let mut child = command
        .spawn()
        .map_err(|error| format!("start {}: {}", hook.path().display(), Errno::from(error)))?;
    let status = end_of(&mut child, hook.timeout())?;
    if status.success() {
        return Ok(());
    }
    let ended = match status.signal() {
        Some(libc::SIGSYS) => "signal: bad system call: linux.seccomp forbids it".to_owned(),
        _ => status.to_string(),
    };
    Err(format!(
        "{ended}, stdout: {}, stderr: {}",
        quote(stdout),
        quote(stderr)
    ))
}

fn memory_file() -> std::io::Result<File> {
    Ok(memfd_create(c"hook", MemfdFlags::CLOEXEC)?.into())
}

fn command(hook: &Hook, environment: &[String]) -> Command {
    let mut command = Command::new(hook.path());
    if let Some((name, rest)) = hook.args().as_deref().and_then(<[String]>::split_first) {
        command.arg0(name).args(rest);
    }
    let environment = hook.env().as_deref().unwrap_or(environment);
    command
        .env_clear()
        .envs(environment.iter().filter_map(|entry| entry.split_once('=')))
        // Its own group, to be killed with whatever it has started.
        .process_group(0);
    command
}

/// Waits for the end, for `limit` seconds at most.
fn end_of(child: &mut Child, limit: Option<i64>) -> Result<ExitStatus, String> {
    let failed = |error: std::io::Error| format!("wait for the hook: {}", Errno::from(error));
    let pid = i32::try_from(child.id()).unwrap_or_default();
    let late = match limit {
        Some(limit) => !ends_within(pid, limit).map_err(failed)?,
        None => false,
    };
    if late {
        // Not reaped yet, so the number is still its own.
        killpg(Pid::from_raw(pid), Signal::SIGKILL).unwrap_or_default();
    }
    let status = child.wait().map_err(failed)?;
    match limit {
        Some(limit) if late => Err(format!("hook ran past specified timeout of {limit}.0s")),
        _ => Ok(status),
    }
}

fn ends_within(pid: i32, seconds: i64) -> std::io::Result<bool> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or(std::io::ErrorKind::NotFound)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let limit = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    let mut watched = [PollFd::new(&pidfd, PollFlags::IN)];
    Ok(poll(&mut watched, Some(&limit))? > 0)
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

/// As much of a failed hook's output is quoted in the error line.
const QUOTED_BYTES: u64 = 1024;
