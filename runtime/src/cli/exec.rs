//! `exec`: runs one more process in a container.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::create::{check_ways_to_caller, send_pidfd, write_pid_file};
use crate::cli::{Caller, Outcome, failed};
use crate::container::detached_exec::DetachedExec;
use crate::container::handle::Container;
use crate::container::preserved_fds::Preserved;
use crate::container::session::{ExecSpec, LateOutput, Session, Terminal};
use crate::container::signals::BlockedSignals;
use crate::container::terminal::RawMode;
use crate::log::Level;
use crate::oci::capabilities;
use crate::oci::fields;
use crate::oci::normalize::normalize_process;
use crate::oci::plan::conditions;
use crate::owner::SpawnOptions;

/// Run one more process in a container
///
/// It begins as a copy of the container's own process object, changed by the flags, or
/// is read whole from a file. In the foreground, the exit status is the process's own;
/// 255 says that it could not be run. Flags end at the container's name.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag that runc has"
)]
#[command(after_help = "\
Examples:
  caisson exec web1 ps aux
  caisson exec --tty --user 1000:1000 --cwd /srv web1 sh
  caisson exec --detach --pid-file pid --process process.json web1")]
pub(super) struct Exec {
    /// Socket that receives the master of the process's terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Environment entry NAME=VALUE; may be given again
    #[arg(long, short, value_name = "ENV")]
    env: Vec<String>,
    /// Give the process a terminal
    #[arg(long, short)]
    tty: bool,
    /// User number, or user and group numbers
    #[arg(long, short, value_name = "UID[:GID]")]
    user: Option<String>,
    /// Further group number; may be given again
    #[arg(long, short = 'g', value_name = "GID")]
    additional_gids: Vec<u32>,
    /// File with the OCI process object; other flags are then ignored
    #[arg(long, short, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Leave the process running and return
    #[arg(long, short)]
    detach: bool,
    /// Socket that receives a pidfd of the process that stands for it
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// File that receives the pid of the process that stands for it
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Forbid the process to gain rights
    #[arg(long)]
    no_new_privs: bool,
    /// Capability to add; may be given again
    #[arg(long, short, value_name = "CAP")]
    cap: Vec<String>,
    /// Descriptors from 3 up to hand to the process
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// In a paused container, wait until it is resumed
    #[arg(long)]
    ignore_paused: bool,
    /// Cgroup below the container's to run in
    #[arg(long, value_name = "PATH")]
    cgroup: Vec<String>,
    /// AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// SELinux label
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// Name of the container
    #[arg(value_name = "ID")]
    id: String,
    /// Program and arguments
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<String>,
}

impl Exec {
    pub(super) fn run(self, caller: &Caller) -> Outcome {
        let preserved = Preserved::take(self.preserve_fds)?;
        check_ways_to_caller(self.pidfd_socket.as_deref(), self.pid_file.as_deref())?;
        let container = Container::find(&caller.store, &self.id)?;
        let mut process = self.process(&container.record().process)?;
        let asked = match &self.process {
            Some(_) => process.clone(),
            // What is added may well not be inheritable, which adds less to it.
            None => json!({"capabilities": {"bounding": self.cap}}),
        };
        if let Some(remark) = capabilities::unknown(&asked) {
            caller.log.write(Level::Warning, &remark);
        }
        for remark in capabilities::not_raised(&asked) {
            caller.log.write_if_file(Level::Warning, &remark);
        }
        normalize_process(&mut process);
        for ignored in fields::check_process(&process)? {
            caller
                .log
                .write_if_file(Level::Warning, &ignored.to_string());
        }
        preserved.add_to_environment(&mut process["env"]);
        let terminal = process["terminal"].as_bool().unwrap_or(false);
        let console_socket = self.console_socket(terminal)?;
        let socket = container.socket();
        let request = ExecSpec {
            process,
            cgroup: cgroup(&self.cgroup)?,
            ignore_paused: self.ignore_paused,
            descriptors: preserved.descriptors,
        };
        if self.detach {
            let order = DetachedExec {
                socket,
                request,
                console_socket,
                cgroup: container.record().cgroup.clone(),
                copies_late_output: true,
                log: caller.log_path.clone(),
                log_json: caller.log_json,
            };
            let run_proxy = order.leave_behind(&SpawnOptions::default())?;
            let introduced = self.introduce(run_proxy.pid());
            if introduced.is_err() {
                // Nobody knows of it: what it stands for goes with it.
                run_proxy.kill();
            }
            return introduced.map(|()| 0);
        }
        let host = match (&console_socket, terminal) {
            (Some(socket), _) => Terminal::ConsoleSocket(socket),
            (None, true) => Terminal::Own,
            (None, false) => Terminal::None,
        };
        let session = Session::begin(&socket, request, &host, BlockedSignals::begin()?)?;
        self.introduce(std::process::id().try_into()?)?;
        let raw_mode = if matches!(host, Terminal::Own) {
            RawMode::enter()
        } else {
            None
        };
        let group = container.record().cgroup.as_ref();
        let status = session.finish(LateOutput::Copied(group), &caller.log);
        drop(raw_mode);
        Ok(status?)
    }

    /// The console socket, which a terminal needs where nobody stays with it.
    fn console_socket(
        &self,
        terminal: bool,
    ) -> Result<Option<PathBuf>, Box<dyn std::error::Error>> {
        let socket = self.console_socket.as_deref().map(std::path::absolute);
        let socket = socket.transpose()?;
        match (terminal, self.detach, &socket) {
            (true, true, None) => {
                let text =
                    "cannot allocate tty if caisson will detach without setting console socket";
                Err(text.into())
            }
            (false, _, Some(_)) => {
                Err("cannot use console socket if the process has no terminal".into())
            }
            _ => Ok(socket),
        }
    }

    /// Tells the caller which process stands for the one in the guest.
    fn introduce(&self, pid: i32) -> Result<(), Box<dyn std::error::Error>> {
        if let Some(socket) = &self.pidfd_socket {
            send_pidfd(socket, pid, "setns")?;
        }
        match &self.pid_file {
            Some(path) => write_pid_file(path, pid),
            None => Ok(()),
        }
    }

    /// The file that was named, or the container's own process with what the
    /// flags change of it.
    fn process(&self, own: &Value) -> Result<Value, Box<dyn std::error::Error>> {
        if let Some(path) = &self.process {
            let name = path.display();
            let text = std::fs::read(path).map_err(failed(format!("read {name}")))?;
            let mut process =
                serde_json::from_slice(&text).map_err(failed(format!("parse {name}")))?;
            inherit(&mut process, own);
            conditions::check_process(&process)?;
            return Ok(process);
        }
        if self.command.is_empty() {
            return Err("process args cannot be empty".into());
        }
        let mut process = own.clone();
        process["args"] = json!(self.command);
        process["terminal"] = json!(self.tty);
        if let Some(cwd) = &self.cwd {
            process["cwd"] = json!(cwd);
        }
        self.change_user(&mut process)?;
        if self.no_new_privs {
            process["noNewPrivileges"] = json!(true);
        }
        if let Some(profile) = &self.apparmor {
            process["apparmorProfile"] = json!(profile);
        }
        if let Some(label) = &self.process_label {
            process["selinuxLabel"] = json!(label);
        }
        extend(&mut process["env"], &self.env);
        if !self.cap.is_empty() {
            add_capabilities(&mut process["capabilities"], &self.cap);
        }
        conditions::check_process(&process)?;
        Ok(process)
    }

    fn change_user(&self, process: &mut Value) -> Result<(), Box<dyn std::error::Error>> {
        let number = |text: &str| {
            text.parse::<u32>()
                .map_err(|_| format!("--user {text:?}: give numbers, uid or uid:gid"))
        };
        if let Some(user) = &self.user {
            let (uid, gid) = user.split_once(':').unwrap_or((user, ""));
            process["user"]["uid"] = json!(number(uid)?);
            if !gid.is_empty() {
                process["user"]["gid"] = json!(number(gid)?);
            }
        }
        if !self.additional_gids.is_empty() {
            extend(
                &mut process["user"]["additionalGids"],
                &self.additional_gids,
            );
        }
        Ok(())
    }
}

/// What a process file leaves out is as for the container's own process.
fn inherit(process: &mut Value, own: &Value) {
    for member in [
        "capabilities",
        "rlimits",
        "noNewPrivileges",
        "oomScoreAdj",
        "scheduler",
        "ioPriority",
        "execCPUAffinity",
    ] {
        if process[member].is_null() && !own[member].is_null() {
            process[member] = own[member].clone();
        }
    }
    for id in ["uid", "gid"] {
        // One without a user is root's, as with runc.
        if process["user"][id].is_null() {
            process["user"][id] = json!(0);
        }
    }
    if process["user"]["umask"].is_null() && !own["user"]["umask"].is_null() {
        process["user"]["umask"] = own["user"]["umask"].clone();
    }
}

/// Ambient ones have to be inheritable, and what can be inherited is decided by
/// the container's configuration alone.
fn add_capabilities(sets: &mut Value, more: &[String]) {
    for set in ["bounding", "effective", "permitted"] {
        extend(&mut sets[set], more);
    }
    if sets["inheritable"].is_array() {
        extend(&mut sets["ambient"], more);
    }
}

/// The path of `--cgroup`. Version 2 has one hierarchy, so a controller before it,
/// which runc knows from version 1, says nothing more.
fn cgroup(given: &[String]) -> Result<String, String> {
    let path = match given {
        [] => return Ok(String::new()),
        [one] => one.rsplit_once(':').map_or(one.as_str(), |(_, path)| path),
        [_, more, ..] => {
            return Err(format!(
                "invalid --cgroup argument: {more}: cgroup v2 has one path for all controllers"
            ));
        }
    };
    Ok(path.to_owned())
}

fn extend<T: Serialize>(list: &mut Value, with: &[T]) {
    if !list.is_array() {
        *list = json!([]);
    }
    if let Some(list) = list.as_array_mut() {
        list.extend(with.iter().map(|item| json!(item)));
    }
}
