//! Flags before the verb, accepted as runc accepts them.

use std::path::{Path, PathBuf};

use super::{Outcome, failed};
use crate::log::{Format, Log};
use crate::store::Store;

/// Flags before the verb.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// Tell what is decided and how
    #[arg(long)]
    debug: bool,
    /// Write log lines to this file instead of standard error
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Form of log lines
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text")]
    log_format: Format,
    /// Folder for the state of containers [default: /run/caisson]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// cgroupsPath has the form slice:prefix:name
    #[arg(long)]
    systemd_cgroup: bool,
    /// Whether to run without root's rights: true, false or auto
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    rootless: String,
    /// Who makes cgroups: cgroupfs, systemd or disabled
    #[arg(long, value_name = "NAME")]
    cgroup_manager: Option<String>,
    /// Print the version
    #[arg(long, short)]
    version: bool,
}

/// What every command is given by its caller.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) store: Store,
    pub(crate) log: Log,
    pub(crate) log_path: Option<PathBuf>,
    pub(crate) log_json: bool,
    pub(crate) debug: bool,
    pub(crate) wants_version: bool,
}

impl Caller {
    pub(crate) fn new(global: Global) -> Result<Self, Box<dyn std::error::Error>> {
        if !matches!(global.rootless.as_str(), "true" | "false" | "auto") {
            return Err(format!(
                "--rootless is true, false or auto, not {:?}",
                global.rootless
            )
            .into());
        }
        let log_path = global.log.map(std::path::absolute).transpose()?;
        let name = log_path
            .as_deref()
            .unwrap_or_else(|| Path::new(""))
            .display();
        let log = Log::open(log_path.as_deref(), global.log_format, global.debug)
            .map_err(failed(format!("open log {name}")))?;
        Ok(Self {
            store: Store::new(&global.root.unwrap_or_else(default_root))?,
            log,
            log_path,
            log_json: global.log_format == Format::Json,
            debug: global.debug,
            wants_version: global.version,
        })
    }
}

/// As runc: below the user's runtime folder where the user is not root.
fn default_root() -> PathBuf {
    let user_folder = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    match user_folder {
        Some(folder) if !nix::unistd::geteuid().is_root() => folder.join("caisson"),
        _ => PathBuf::from("/run/caisson"),
    }
}

/// Callers parse the first line as `<name> version <version>`.
pub(super) fn print_version() -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    super::print(&format!("caisson version {version}\nspec: 1.3.0\n"))
}
