//! `sandbox`: runs a command of this host in a VM, without a bundle.
//!
//! Owns its flags and their defaults; `sandbox` of the library has what is visible.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::{Caller, Outcome, failed, run, sizes};
use crate::container::create::Creation;
use crate::container::preserved_fds::Preserved;
use crate::host::identity::{User, is_rootless};
use crate::host::private;
use crate::host::random::fill_random;
use crate::sandbox;

/// Set for the copy of this command that runs in a user namespace.
const INSIDE: &str = "CAISSON_SANDBOX_USER_NAMESPACE";
/// Variables that say how to write to the caller's terminal.
const TERMINAL_VARIABLES: [&str; 4] = ["TERM", "COLORTERM", "LANG", "LC_ALL"];
/// What any guest needs.
const MIN_MEMORY_BYTES: i64 = 64 << 20;

/// Run a command of this host in a VM of its own
///
/// The command sees this host's system directories (/usr, /etc, ...) read-only, and may
/// write everywhere: that goes to the VM's memory, and ends with it. It does not see home
/// directories, files that only some users may read, processes, devices or the network.
/// The working directory is shown read-only, unless it holds your home directory.
///
/// Standard streams and signals are the command's, and the exit status is its own: 128
/// plus the number for one that a signal has ended.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  caisson sandbox -- make test                  reads this directory, writes to memory
  caisson sandbox --rw . -- npm run build       writes to this directory
  caisson sandbox --memory 8g --cpus 4 -- bash  a shell to try something in")]
pub(super) struct Sandbox {
    /// Directory or file that the command may write to
    #[arg(long, value_name = "PATH")]
    rw: Vec<PathBuf>,
    /// Directory or file that the command may read
    #[arg(long, value_name = "PATH")]
    ro: Vec<PathBuf>,
    /// Variable of the command's environment; NAME alone takes its value from here
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Give the command a network by slirp4netns: it connects as you do, except to this host's loopback
    #[arg(long)]
    net: bool,
    /// Limit of memory; half of it can hold files
    #[arg(long, short, value_name = "SIZE", default_value = "2g")]
    memory: String,
    /// Limit of CPUs, such as 1.5 [default: as `default_vcpus` of the configuration]
    #[arg(long, value_name = "N")]
    cpus: Option<f64>,
    /// The command and its arguments
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<OsString>,
}

impl Sandbox {
    pub(super) fn run(self, caller: &Caller) -> Outcome {
        let mut request = self.request()?;
        if User::unprivileged().is_some() {
            return Err(enter_user_namespace().into());
        }
        let network = self.net.then(sandbox::Network::start).transpose()?;
        request.network = network.as_ref().map(sandbox::Network::path);
        let directory = bundle_directory(caller)?;
        let bundle = sandbox::prepare(&request, &directory)?;
        for remark in &bundle.remarks {
            writeln!(std::io::stderr(), "caisson: {remark}").ok();
        }
        let creation = creation(caller, bundle.path)?;
        let (container, status) = run::in_foreground(&creation, caller, |_| Ok(()))?;
        if let Err(err) = container.delete(true, &caller.log) {
            let failure = crate::log::error_line::chain(&err);
            writeln!(std::io::stderr(), "caisson: {failure}").ok();
        }
        status
    }

    fn request(&self) -> Result<sandbox::Request, Box<dyn std::error::Error>> {
        let memory = sizes::bytes(&self.memory).filter(|bytes| *bytes >= MIN_MEMORY_BYTES);
        let memory_bytes = memory
            .ok_or_else(|| format!("--memory {:?} is not a size of 64m or more", self.memory))?;
        let working_directory =
            std::env::current_dir().map_err(failed("find the working directory"))?;
        Ok(sandbox::Request {
            command: self.command.clone(),
            writable: self.rw.clone(),
            readable: self.ro.clone(),
            environment: self.environment()?,
            memory_bytes,
            millicpus: self.cpus.map(millicpus).transpose()?,
            network: None,
            in_user_namespace: is_rootless(),
            terminal: std::io::stdin().is_terminal() && std::io::stdout().is_terminal(),
            working_directory,
            home: home(),
        })
    }

    /// The caller's own variables may hold secrets: only what is named goes in.
    fn environment(&self) -> Result<Vec<String>, String> {
        let here = |name: &str| {
            std::env::var(name)
                .ok()
                .map(|value| format!("{name}={value}"))
        };
        let mut all: Vec<String> = TERMINAL_VARIABLES.into_iter().filter_map(here).collect();
        for variable in &self.env {
            match variable.split_once('=') {
                Some(("", _)) => return Err(format!("--env {variable:?} has no name")),
                Some(_) => all.push(variable.clone()),
                None => all.extend(here(variable)),
            }
        }
        Ok(all)
    }
}

fn millicpus(cpus: f64) -> Result<u32, String> {
    let wanted = cpus * 1000.0;
    // The kernel's least quota is a hundredth of its period.
    if !(10.0..=1_000_000.0).contains(&wanted) {
        return Err(format!("--cpus {cpus} is not a number from 0.01 to 1000"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it was compared"
    )]
    Ok(wanted as u32)
}

fn home() -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let home = home.filter(|home| home.is_absolute());
    let home = home.unwrap_or_else(|| PathBuf::from("/root"));
    home.canonicalize().unwrap_or(home)
}

/// Where the bundles of all sandboxes are, each in the mount namespace of its own.
fn bundle_directory(caller: &Caller) -> Result<PathBuf, private::Error> {
    let mut directory = caller.store.root().as_os_str().to_owned();
    directory.push("-sandbox");
    let directory = PathBuf::from(directory);
    private::Directory::make(&directory)?;
    Ok(directory)
}

/// Its name is random: process ids repeat in pid namespaces, and cgroups are the host's.
fn creation(caller: &Caller, bundle: PathBuf) -> Result<Creation, Box<dyn std::error::Error>> {
    let mut number = [0; 8];
    fill_random(&mut number).map_err(failed("make a name for the sandbox"))?;
    let id = format!("sandbox-{:016x}", u64::from_ne_bytes(number));
    Ok(Creation {
        preserved: Preserved::take(0)?,
        foreground: true,
        warn_on_stderr: true,
        bound: true,
        ..caller.creation(id, bundle)
    })
}

/// Becomes the same command where this user is root: mounts need that. Returns why not.
fn enter_user_namespace() -> String {
    if std::env::var_os(INSIDE).is_some() {
        return "this user namespace does not make the user root".to_owned();
    }
    let program = std::env::current_exe().unwrap_or_else(|_| Path::new("caisson").to_owned());
    let refused = Command::new("unshare")
        .args(["--user", "--map-root-user", "--map-auto", "--"])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    format!(
        "start unshare: {refused}; install it (Debian: util-linux, uidmap), or run this as root"
    )
}
