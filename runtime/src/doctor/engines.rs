//! Container engines of this host: which are installed, and what they know of caisson.
//!
//! What an engine's file holds is read by `setup`, which also writes it. None of this stops
//! containers that are started from the command line, so nothing here is a FAIL.

use std::path::Path;

use crate::doctor::host::DAEMON_PATH;
use crate::doctor::{Finding, HostView};
use crate::setup::Engine;

const SHIM: &str = "containerd-shim-caisson-v2";

/// One engine: its programs, the first of which is what runs containers.
struct Installed {
    engine: Engine,
    name: &'static str,
    programs: &'static [&'static str],
    /// Whether it starts the shim without an entry.
    finds_shim: bool,
}

const DOCKER: Installed = Installed {
    engine: Engine::Docker,
    name: "docker",
    programs: &["dockerd", "docker"],
    finds_shim: true,
};
const PODMAN: Installed = Installed {
    engine: Engine::Podman,
    name: "podman",
    programs: &["podman"],
    finds_shim: false,
};
const CONTAINERD: Installed = Installed {
    engine: Engine::Containerd,
    name: "containerd",
    programs: &["containerd"],
    finds_shim: true,
};

pub(super) fn docker(host: &HostView) -> Finding {
    engine(host, &DOCKER)
}

pub(super) fn podman(host: &HostView) -> Finding {
    engine(host, &PODMAN)
}

pub(super) fn containerd(host: &HostView) -> Finding {
    engine(host, &CONTAINERD)
}

fn find(host: &HostView, installed: &Installed) -> Option<String> {
    let found = installed.programs.iter();
    let mut found = found.filter_map(|name| host.find_program(name));
    found.next().map(|path| path.display().to_string())
}

fn engine(host: &HostView, installed: &Installed) -> Finding {
    let name = installed.name;
    let Some(program) = find(host, installed) else {
        return Finding::ok(format!("{name} is not installed"));
    };
    let file = installed.engine.default_file();
    let text = host.text(file).unwrap_or_default();
    let register = format!("caisson setup {name}");
    let named = match installed.engine.registered_program(&text) {
        Ok(named) => named,
        Err(message) => {
            return Finding::warn(
                format!("{program}; {} can't be read: {message}", file.display()),
                format!("correct {}", file.display()),
            );
        }
    };
    let Some(named) = named else {
        return unregistered(host, installed, &program, register);
    };
    let file = file.display();
    match as_path(&named) {
        // A shim's name: the check of the shim looks for it.
        None => Finding::ok(format!("{program}; {file} names {named}")),
        Some(path) if !host.exists(path) => Finding::warn(
            format!("{program}; {file} names {named}, which does not exist"),
            register,
        ),
        Some(path) if !is_this(host, path) => Finding::warn(
            format!(
                "{program}; {file} names {named}, another installation than this {}",
                host.program.display()
            ),
            format!("{register}, if this one is to be used"),
        ),
        Some(_) => Finding::ok(format!(
            "{program}; {file} names {named}, version {}",
            env!("CARGO_PKG_VERSION")
        )),
    }
}

fn unregistered(
    host: &HostView,
    installed: &Installed,
    program: &str,
    register: String,
) -> Finding {
    let shim = find_shim(host).filter(|_| installed.finds_shim);
    match shim {
        Some(shim) => Finding::ok(format!(
            "{program}; no entry for caisson, and none is needed for io.containerd.caisson.v2 ({shim}); by name: `{register}`"
        )),
        None => Finding::warn(format!("{program} does not know caisson"), register),
    }
}

fn as_path(named: &str) -> Option<&Path> {
    named.starts_with('/').then(|| Path::new(named))
}

/// Whether an entry's program is of this installation: the same file, or beside it.
fn is_this(host: &HostView, named: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    let named = real(&host.path(named));
    let own = real(&host.program);
    let directory = |path: &Option<std::path::PathBuf>| {
        path.as_deref().and_then(Path::parent).map(Path::to_owned)
    };
    named.is_some() && directory(&named) == directory(&own)
}

fn find_shim(host: &HostView) -> Option<String> {
    let mut paths = DAEMON_PATH
        .iter()
        .map(|directory| format!("{directory}/{SHIM}"));
    paths.find(|path| host.exists(path))
}

pub(super) fn shim(host: &HostView) -> Finding {
    let users: Vec<&str> = [DOCKER, CONTAINERD]
        .iter()
        .filter(|installed| find(host, installed).is_some())
        .map(|installed| installed.name)
        .collect();
    if let Some(path) = find_shim(host) {
        return Finding::ok(format!("{path} is on a daemon's usual PATH"));
    }
    if users.is_empty() {
        return Finding::ok("not used: neither containerd nor Docker is installed");
    }
    let file = Engine::Containerd.default_file();
    let text = host.text(file).unwrap_or_default();
    if let Ok(Some(named)) = Engine::Containerd.registered_program(&text)
        && as_path(&named).is_some_and(|path| host.exists(path))
    {
        return Finding::ok(format!("{} names {named}", file.display()));
    }
    let beside = host.program.with_file_name(SHIM);
    Finding::warn(
        format!(
            "{SHIM} is not in {}: {} can't start it",
            DAEMON_PATH.join(", "),
            users.join(" and ")
        ),
        format!("ln -s {} /usr/local/bin/", beside.display()),
    )
}
