//! `NOTIFY_SOCKET`: a service manager hears when the container's program is ready.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;

use caisson_tests::{Bundle, Scene, stories};
use serde_json::json;

stories![
    the_manager_hears_that_the_program_is_ready_and_which_pid_it_has,
    an_abstract_socket_and_a_read_only_root_do_as_well,
    a_manager_that_is_gone_is_no_reason_to_fail,
];

/// Runs `run --detach` for a manager that listens there, and returns the container's pid.
#[track_caller]
fn run_for(scene: &Scene, bundle: &Bundle, socket: &str) -> (u32, String) {
    let pid_file = bundle.path.join("pid");
    let mut command: Command = scene.command(["run", "--detach", "--pid-file"]);
    command
        .arg(&pid_file)
        .arg("--bundle")
        .arg(&bundle.path)
        .arg(&bundle.id);
    command.env("NOTIFY_SOCKET", socket);
    let output = scene.output_of(command);
    output.exits(0);
    let pid = std::fs::read_to_string(pid_file).unwrap();
    (pid.parse().unwrap(), output.stderr)
}

fn heard(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 4096];
    let len = socket.recv(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..len]).into_owned()
}

fn the_manager_hears_that_the_program_is_ready_and_which_pid_it_has(scene: &Scene) {
    let path = scene.path("manager");
    let manager = UnixDatagram::bind(&path).unwrap();
    let script = "probe notify STATUS=busy; probe notify 'STATUS=done
READY=1
MAINPID=1'; probe notify READY=1; exec sleep 1000";
    let bundle = scene.shell(script);
    bundle.edit(|config| {
        config["process"]["env"] = json!(["PATH=/bin", "NOTIFY_SOCKET=/nowhere"]);
        config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    let (pid, _) = run_for(scene, &bundle, path.to_str().unwrap());
    assert_eq!(heard(&manager), "READY=1\n");
    assert_eq!(heard(&manager), format!("MAINPID={pid}\n"));
    scene.caisson(["delete", "--force", &bundle.id]).ok();
    manager.set_nonblocking(true).unwrap();
    assert!(manager.recv(&mut [0; 16]).is_err(), "it is said once");
    drop(manager);
    scene.assert_nothing_is_left();
}

fn an_abstract_socket_and_a_read_only_root_do_as_well(scene: &Scene) {
    let name = format!("{}-manager", scene.tag());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let manager = UnixDatagram::bind_addr(&address).unwrap();
    let bundle = scene.shell("probe notify READY=1; exec sleep 1000");
    bundle.edit(|config| config["root"]["readonly"] = true.into());
    let (pid, _) = run_for(scene, &bundle, &format!("@{name}"));
    assert_eq!(heard(&manager), "READY=1\n");
    assert_eq!(heard(&manager), format!("MAINPID={pid}\n"));
    scene.caisson(["delete", "--force", &bundle.id]).ok();
}

fn a_manager_that_is_gone_is_no_reason_to_fail(scene: &Scene) {
    let bundle = scene.bundle(&["sleep", "1000"]);
    let (_, said) = run_for(scene, &bundle, "/nowhere/manager");
    let line = "NOTIFY_SOCKET=/nowhere/manager: no such file or directory";
    assert!(said.contains(line), "{said}");
    scene.caisson(["delete", "--force", &bundle.id]).ok();
}
