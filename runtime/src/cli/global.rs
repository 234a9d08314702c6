//! Flags before the verb, accepted as runc accepts them.

use std::path::{Path, PathBuf};

use crate::cgroup::Driver;
use crate::cli::outcome::{Outcome, failed, print};
use crate::container::create::Creation;
use crate::container::preserved_fds::Preserved;
use crate::container::store::Store;
use crate::host::identity;
use crate::log::{Format, Log};
use crate::owner::SpawnOptions;

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
    /// Directory for the state of containers [default: /run/caisson]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// cgroupsPath has the form slice:prefix:name
    #[arg(long)]
    systemd_cgroup: bool,
    /// Whether to run without root's rights: true, false or auto
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    rootless: String,
    /// Who makes cgroups
    #[arg(long, value_name = "NAME", value_enum)]
    cgroup_manager: Option<Driver>,
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
    pub(crate) cgroup_driver: Driver,
    pub(crate) rootless: Option<bool>,
    pub(crate) wants_version: bool,
}

impl Caller {
    pub(crate) fn new(global: Global) -> Result<Self, Box<dyn std::error::Error>> {
        let rootless = match global.rootless.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            "auto" => None,
            other => {
                return Err(format!("--rootless is true, false or auto, not {other:?}").into());
            }
        };
        let named_driver = if global.systemd_cgroup {
            Driver::Systemd
        } else {
            Driver::Cgroupfs
        };
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
            cgroup_driver: global.cgroup_manager.unwrap_or(named_driver),
            rootless,
            wants_version: global.version,
        })
    }
}

impl Caller {
    /// The creation of a container as callers ask for by default: in the background, with
    /// nothing handed on.
    pub(super) fn creation(&self, id: String, bundle: PathBuf) -> Creation {
        Creation {
            id,
            bundle,
            console_socket: None,
            foreground: false,
            cgroup_driver: self.cgroup_driver,
            rootless: self.rootless,
            preserved: Preserved::default(),
            notify: None,
            log: self.log_path.clone(),
            log_json: self.log_json,
            debug: self.debug,
            warn_on_stderr: false,
            config: None,
            around: SpawnOptions::default(),
            bound: false,
            group: Vec::new(),
        }
    }
}

/// As runc: below the user's runtime directory where the user has no root's rights.
fn default_root() -> PathBuf {
    let user_folder = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    match user_folder {
        Some(folder) if identity::is_rootless() => folder.join("caisson"),
        _ => PathBuf::from("/run/caisson"),
    }
}

/// Callers parse the first line as `<name> version <version>`.
pub(super) fn print_version() -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    print(&format!("caisson version {version}\nspec: 1.3.0\n"))
}
