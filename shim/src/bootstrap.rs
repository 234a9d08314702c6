//! The `start` action: finds the server of a group, or starts one, and prints its
//! address in the form that this containerd reads.
//!
//! ```text
//! standard input           output
//! BootstrapParams (>= 2.3) BootstrapResult, version 3
//! empty, or options        the plain address, which all before 2.3 read as version 2
//! ```
//! Owns both forms and the start of the server: its socket, group, and OOM score.
//! containerd reads standard output and error as one, so nothing else is printed.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use caisson::host::private::Directory;
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use protobuf::Message;
use protobuf::well_known_types::any::Any;

use crate::arguments::Arguments;
use crate::{group, options, paths};

/// The newest version of the Task service that is served; 2 is too.
const TASK_VERSION: i32 = 3;
/// The greatest score that Linux knows.
const MAX_OOM_SCORE: i32 = 1000;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[error("{action}")]
pub(crate) struct Error {
    action: &'static str,
    #[source]
    cause: io::Error,
}

fn step(action: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |cause| Error { action, cause }
}

/// Carries the action out.
pub(crate) fn start(arguments: &Arguments) -> Result<(), Error> {
    let input = read_input().map_err(step("read standard input"))?;
    let parameters = parameters_in(&input, arguments);
    let bundle = std::env::current_dir().map_err(step("find the bundle"))?;
    for any in options_in(&input, parameters.as_ref()) {
        options::save(&any, &bundle).map_err(step("keep the runtime's options"))?;
    }
    let group = group::of_bundle(&bundle, &arguments.id);
    let directory = parameters
        .as_ref()
        .and_then(|all| all.socket_dir.as_deref());
    let socket = paths::socket(directory, &arguments.address, &arguments.namespace, &group);
    let begin = |listener| {
        spawn(arguments, listener, parameters.as_ref()).map_err(step("start the server"))
    };
    find_or_start(&socket, begin)?;
    let address = format!("unix://{}", socket.display());
    // containerd before 2.0 finds the server again by this file.
    paths::write(Path::new("address"), address.as_bytes())
        .map_err(step("write the file address"))?;
    let response = response(address, parameters.is_some()).map_err(step("encode the response"))?;
    let mut output = io::stdout();
    output
        .write_all(&response)
        .map_err(step("print the address"))
}

fn read_input() -> io::Result<Vec<u8>> {
    let mut input = io::stdin();
    let mut bytes = Vec::new();
    if !input.is_terminal() {
        input.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// The parameters, where this containerd sends them. Other messages may parse as them too:
/// those don't match the flags.
fn parameters_in(input: &[u8], arguments: &Arguments) -> Option<BootstrapParams> {
    let parameters = BootstrapParams::parse_from_bytes(input).ok();
    let fits = |all: &BootstrapParams| {
        all.instance_id == arguments.id && all.namespace == arguments.namespace
    };
    parameters.filter(fits)
}

/// The runtime's options: among the parameters, or alone on standard input.
fn options_in(input: &[u8], parameters: Option<&BootstrapParams>) -> Vec<Any> {
    match parameters {
        Some(all) => {
            let values = all.extensions.iter().map(|extension| &extension.value);
            values.filter_map(|any| any.as_ref().cloned()).collect()
        }
        None => Any::parse_from_bytes(input).into_iter().collect(),
    }
}

fn response(address: String, in_protobuf: bool) -> io::Result<Vec<u8>> {
    if !in_protobuf {
        return Ok(address.into_bytes());
    }
    let result = BootstrapResult {
        version: TASK_VERSION,
        address,
        protocol: "ttrpc".to_owned(),
        ..Default::default()
    };
    result.write_to_bytes().map_err(io::Error::other)
}

/// Finds the server that accepts connections at `socket`, or has `begin` start one on a
/// new socket. A concurrent start for the same group finds that one.
fn find_or_start(
    socket: &Path,
    begin: impl FnOnce(UnixListener) -> Result<(), Error>,
) -> Result<(), Error> {
    if UnixStream::connect(socket).is_ok() {
        return Ok(());
    }
    let directory = Directory::make(directory_of(socket)).map_err(io::Error::other);
    let directory = directory.map_err(step("make the directory of sockets"))?;
    let lock = lock_directory_of(socket).map_err(step("lock the directory of sockets"))?;
    if UnixStream::connect(socket).is_err() {
        let listener = listen(&directory, socket).map_err(step("make the socket"))?;
        begin(listener)?;
    }
    drop(lock);
    Ok(())
}

fn directory_of(socket: &Path) -> &Path {
    socket.parent().unwrap_or_else(|| Path::new("/"))
}

/// Held while a socket that refuses connections is removed or replaced. The directory
/// itself, which all groups share, is locked: a lock file of the group could be removed
/// while another process waits for it.
pub(crate) fn lock_directory_of(socket: &Path) -> io::Result<File> {
    let directory = Directory::open(directory_of(socket)).map_err(io::Error::other)?;
    let directory = directory.into_file();
    directory.lock()?;
    Ok(directory)
}

/// Listens at `socket`; a socket that is there belonged to a server that has died. Only
/// this user and root can connect to the new one.
fn listen(directory: &Directory, socket: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(socket) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    let name = socket.file_name().unwrap_or_default();
    directory.listen(name).map_err(io::Error::other)
}

/// The server gets the socket as standard input, and nothing else of this process.
fn spawn(
    arguments: &Arguments,
    listener: UnixListener,
    parameters: Option<&BootstrapParams>,
) -> io::Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["-namespace", &arguments.namespace])
        .args(["-id", &arguments.id])
        .args(["-address", &arguments.address]);
    if let Some(parameters) = parameters {
        command.args(["-events", &parameters.containerd_ttrpc_address]);
    }
    if arguments.debug {
        command.arg("-debug");
    }
    let server = command
        .arg("serve")
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    set_oom_score(server.id())
}

/// For lack of memory the server is killed before containerd, and after the containers.
fn set_oom_score(server: u32) -> io::Result<()> {
    let own = std::os::unix::process::parent_id();
    let text = fs::read_to_string(format!("/proc/{own}/oom_score_adj")).unwrap_or_default();
    let score = text.trim().parse().unwrap_or(0).min(MAX_OOM_SCORE - 1) + 1;
    let path = format!("/proc/{server}/oom_score_adj");
    File::options()
        .write(true)
        .open(path)?
        .write_all(score.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, Mutex};
    use std::thread;

    use super::*;

    #[test]
    fn each_containerd_gets_the_form_it_reads() {
        assert_eq!(response("unix:///s".into(), false).unwrap(), b"unix:///s");
        let bytes = response("unix:///s".into(), true).unwrap();
        let result = BootstrapResult::parse_from_bytes(&bytes).unwrap();
        assert_eq!(result.version, 3);
        assert_eq!(result.address, "unix:///s");
        assert_eq!(result.protocol, "ttrpc");
    }

    #[test]
    fn a_dead_servers_socket_is_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("deep/s");
        let died = |listener| {
            drop(listener);
            Ok(())
        };
        find_or_start(&socket, died).unwrap();
        let mut taken = None;
        find_or_start(&socket, |listener| {
            taken = Some(listener);
            Ok(())
        })
        .unwrap();
        assert!(taken.is_some());
        find_or_start(&socket, |_| panic!("a server runs")).unwrap();
    }

    #[test]
    fn no_other_user_can_connect_to_the_server() {
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("made/s");
        find_or_start(&socket, |listener| {
            drop(listener);
            Ok(())
        })
        .unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&socket), 0o600);
        assert_eq!(mode(&directory.path().join("made")), 0o700);
        let open_to_all = fs::Permissions::from_mode(0o777);
        fs::set_permissions(directory.path().join("made"), open_to_all).unwrap();
        let refused = find_or_start(&socket, |_| panic!("a server was started"));
        let text = caisson::log::error_line::chain(&refused.unwrap_err());
        assert!(text.contains("may be written to by others"), "{text}");
    }

    #[test]
    fn of_two_starts_at_once_one_finds_the_others_server() {
        let directory = tempfile::tempdir().unwrap();
        for round in 0..100 {
            let socket = directory.path().join(round.to_string());
            let (servers, at_once) = (Mutex::new(Vec::new()), Barrier::new(2));
            let serve = |listener| {
                servers.lock().unwrap().push(listener);
                Ok(())
            };
            let start = || {
                at_once.wait();
                find_or_start(&socket, serve).unwrap();
            };
            thread::scope(|scope| {
                scope.spawn(start);
                scope.spawn(start);
            });
            assert_eq!(servers.lock().unwrap().len(), 1, "round {round}");
        }
    }
}
