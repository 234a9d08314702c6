//! The way from the guest to the host, tried by a container's own processes: they
//! get no socket to it, and with one they get nobody's stream.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc;

use caisson_protocol::{CONTROL_PORT, FIRST_STREAM_PORT, NAMES_PORT, TOKEN_LEN};
use caisson_tests::{Bundle, Container, Scene, stories, wait};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, VsockAddr, connect, socket};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use crate::shim::Shim;

stories![
    a_container_gets_no_socket_to_the_host.smoke(),
    streams_of_execs_are_not_taken_from_inside.limit(600),
    streams_are_not_taken_by_another_container_of_the_pod.limit(600),
];

/// Those that every machine has.
const FIXED_PORTS: [u32; 2] = [CONTROL_PORT, NAMES_PORT];
const WORKERS: u32 = 8;

/// What `probe vsock` prints.
pub(crate) fn make_socket() -> String {
    match open() {
        Ok(_) => "a socket".to_owned(),
        Err(errno) => errno.to_string(),
    }
}

fn open() -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Vsock, SockType::Stream, flags, None)
}

/// Connects to a port of the host, as every process of a guest may that gets a socket.
pub(crate) fn connect_to_host(port: u32) -> Result<File, Errno> {
    let socket = open()?;
    let host = VsockAddr::new(nix::libc::VMADDR_CID_HOST, port);
    connect(socket.as_raw_fd(), &host)?;
    Ok(File::from(socket))
}

/// Tries to get into the place of the agent at `count` ports from the first of the
/// streams, and at the fixed ones, until it is killed. Each worker goes through its
/// ports again and again; what it gets is a line in `taken`.
pub(crate) fn take_streams(count: u32, taken: &str) -> String {
    File::create(taken).unwrap();
    let (sender, lines) = mpsc::channel();
    for worker in 0..WORKERS {
        let own = (FIRST_STREAM_PORT..FIRST_STREAM_PORT + count)
            .filter(move |port| port % WORKERS == worker)
            .chain(FIXED_PORTS);
        let own: Vec<_> = own.collect();
        let sender = sender.clone();
        std::thread::spawn(move || {
            let tries = own.iter().cycle().filter_map(|port| take(*port));
            tries.for_each(|line| sender.send(line).unwrap());
        });
    }
    for line in lines {
        let mut file = File::options().append(true).open(taken).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
    String::new()
}

/// A connection that the host does not close at once is written to and read from.
fn take(port: u32) -> Option<String> {
    let mut stream = connect_to_host(port).ok()?;
    if FIXED_PORTS.contains(&port) {
        stream.write_all(&[7; TOKEN_LEN]).ok()?;
    }
    let brief = Timespec {
        tv_sec: 0,
        tv_nsec: 400_000_000,
    };
    poll(&mut [PollFd::new(&stream, PollFlags::IN)], Some(&brief)).ok()?;
    stream.write_all(b"FORGED\n").ok()?;
    let mut bytes = [0; 64];
    match stream.read(&mut bytes) {
        Ok(length @ 1..) => Some(format!("port {port}: {:?}\n", &bytes[..length])),
        _ => None,
    }
}

fn a_container_gets_no_socket_to_the_host(scene: &Scene) {
    let refused = "EAFNOSUPPORT: Address family not supported by protocol\n";
    let privileged = scene.bundle(&["probe", "vsock"]);
    privileged.privileged();
    assert_eq!(scene.run(&privileged).ok(), refused);
    let bundle = scene.bundle(&["sleep", "1000"]);
    let container = scene.started(&bundle);
    let plain = container.exec(&["--user", "1000:1000", "probe", "vsock"]);
    assert_eq!(plain.ok(), refused);
    container.remove();
    let asked = with_sockets(scene.bundle(&["probe", "vsock"]));
    assert_eq!(scene.run(&asked).ok(), "a socket\n");
}

fn with_sockets(bundle: Bundle) -> Bundle {
    bundle.edit(|config| config["annotations"]["dev.caisson.vsock"] = json!("allow"));
    bundle
}

/// An attack that runs; its program is a container's, of an ordinary user.
struct Attack<'a> {
    scene: &'a Scene,
    exec: Child,
}

impl<'a> Attack<'a> {
    fn begin(scene: &'a Scene, container: &Container<'_>) -> Self {
        let count = ports(scene).to_string();
        let words = ["probe", "take-streams", &count, "/tmp/taken"];
        let user = ["--user", "1000:1000"];
        let mut command = scene.command(["exec"].iter().chain(&user));
        command.arg(&container.id).args(words);
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        let attack = Self {
            scene,
            exec: quiet.spawn().unwrap(),
        };
        wait::for_file(&attack.taken_path());
        attack
    }

    fn taken_path(&self) -> PathBuf {
        self.scene.rootfs().join("tmp/taken")
    }

    /// What it has got.
    fn end(mut self) -> String {
        let taken = fs::read_to_string(self.taken_path()).unwrap();
        assert_eq!(self.exec.try_wait().unwrap(), None, "it goes on");
        self.exec.kill().unwrap();
        self.exec.wait().unwrap();
        taken
    }
}

/// As many ports as the execs had if they were counted: stdin, stdout and stderr.
fn ports(scene: &Scene) -> usize {
    3 * scene.settings.count(200) + 3
}

fn open_to_all(scene: &Scene) {
    let everybody = fs::Permissions::from_mode(0o777);
    fs::set_permissions(scene.rootfs().join("tmp"), everybody).unwrap();
}

fn streams_of_execs_are_not_taken_from_inside(scene: &Scene) {
    let bundle = with_sockets(scene.bundle(&["sleep", "1000"]));
    open_to_all(scene);
    let container = scene.started(&bundle);
    let attack = Attack::begin(scene, &container);
    for number in 0..scene.settings.count(200) {
        let secret = format!("secret {number}");
        let script = "cat; echo real";
        let mut command = scene.command(["exec", &container.id, "sh", "-c", script]);
        let input = scene.path("input");
        fs::write(&input, &secret).unwrap();
        command.stdin(File::open(&input).unwrap());
        let output = scene.output_of(command);
        assert_eq!(output.ok(), format!("{secret}real\n"));
    }
    assert_eq!(attack.end(), "");
    container.remove();
}

fn streams_are_not_taken_by_another_container_of_the_pod(scene: &Scene) {
    let bundles = [(); 2].map(|()| with_sockets(scene.bundle(&["sleep", "1000"])));
    open_to_all(scene);
    for bundle in &bundles {
        bundle.edit(|config| config["annotations"]["dev.caisson.group"] = json!(scene.tag()));
    }
    let [first, second] = &bundles;
    let shim = Shim::start(scene, first);
    for bundle in &bundles {
        shim.create(bundle);
        shim.start_process(&bundle.id, "");
    }
    let attack = format!("probe take-streams {} /tmp/taken", ports(scene));
    shim.add_exec(&first.id, "attack", &attack).unwrap();
    shim.start_process(&first.id, "attack");
    let taken = scene.rootfs().join("tmp/taken");
    wait::for_file(&taken);
    for number in 0..scene.settings.count(200) {
        let exec = format!("exec-{number}");
        shim.add_exec(&second.id, &exec, "echo real").unwrap();
        shim.start_process(&second.id, &exec);
        assert_eq!(shim.wait(&second.id, &exec), 0);
        let output = fs::read_to_string(shim.output_of(&second.id, &exec)).unwrap();
        assert_eq!(output, "real\n");
    }
    assert_eq!(fs::read_to_string(taken).unwrap(), "");
    for bundle in [second, first] {
        shim.kill(&bundle.id).unwrap();
        assert_eq!(shim.wait(&bundle.id, ""), 137);
        assert_eq!(shim.delete(&bundle.id), 137);
    }
    shim.shut_down();
}
