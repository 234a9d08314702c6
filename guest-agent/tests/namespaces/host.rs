//! The host's side of a test: the real agent in namespaces of this machine, the
//! real client, AF_UNIX in place of vsock.
//!
//! Owns a directory with the sockets and a root file system of busybox.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs,
    io::{Read, Write},
    net::Shutdown,
    os::{
        fd::IntoRawFd,
        unix::{
            fs::symlink,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{
        Mutex, RwLock,
        atomic::{AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
};

use caisson_protocol::{
    CONTROL_PORT, FIRST_STREAM_PORT, PROTOCOL_MAJOR,
    client::{
        agent::{
            ContainerRequest, CreateContainerRequest, DeleteContainerRequest, ExecRequest, Exited,
            HelloRequest, NextEventRequest, ResizeRequest, SignalRequest, Stdio, event::Kind,
        },
        agent_ttrpc::AgentClient,
    },
};
use serde_json::{Value, json};
use ttrpc::context::{Context, with_duration};

/// The host of one agent.
pub(crate) struct Host {
    directory: PathBuf,
    agent: Child,
    control: UnixListener,
    /// The first connection, to be cut.
    cutter: UnixStream,
    client: RwLock<AgentClient>,
    next_port: AtomicU32,
    events: Mutex<Events>,
}

#[derive(Default)]
struct Events {
    last: u64,
    exits: HashMap<(String, String), Exited>,
}

/// The streams of one process, collected in the background.
pub(crate) struct Collected {
    input: Option<JoinHandle<()>>,
    output: Vec<JoinHandle<Vec<u8>>>,
}

impl Collected {
    /// Everything that was written to standard output, once its end has come.
    pub(crate) fn stdout(mut self) -> Vec<u8> {
        let output = self.output.remove(0).join().unwrap();
        if let Some(input) = self.input.take() {
            input.join().unwrap();
        }
        output
    }
}

impl Host {
    /// Starts an agent and waits for it to be ready.
    pub(crate) fn new(name: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("caisson-agent-{}-{name}", std::process::id()));
        make_rootfs(&directory.join("rootfs"));
        let control = UnixListener::bind(directory.join(CONTROL_PORT.to_string())).unwrap();
        let agent = Command::new("unshare")
            .args([
                "--mount",
                "--pid",
                "--ipc",
                "--uts",
                "--cgroup",
                "--fork",
                "--kill-child",
            ])
            .arg(std::env::current_exe().unwrap())
            .arg("agent")
            .arg(&directory)
            .spawn()
            .unwrap();
        let (connection, _) = control.accept().unwrap();
        let cutter = connection.try_clone().unwrap();
        let client = ttrpc::Client::new(connection.into_raw_fd()).unwrap();
        let host = Self {
            directory,
            agent,
            control,
            cutter,
            client: RwLock::new(AgentClient::new(client)),
            next_port: AtomicU32::new(FIRST_STREAM_PORT),
            events: Mutex::default(),
        };
        host.greet();
        host
    }

    fn client(&self) -> AgentClient {
        self.client.read().unwrap().clone()
    }

    fn greet(&self) {
        let hello = HelloRequest {
            protocol_major: PROTOCOL_MAJOR,
            ..Default::default()
        };
        self.client().hello(within(), &hello).unwrap();
    }

    /// Cuts the connection to the agent, which makes another.
    pub(crate) fn reconnect(&self) {
        self.cutter.shutdown(Shutdown::Both).unwrap();
        let (connection, _) = self.control.accept().unwrap();
        let client = ttrpc::Client::new(connection.into_raw_fd()).unwrap();
        *self.client.write().unwrap() = AgentClient::new(client);
        self.greet();
    }

    /// A configuration as `caisson spec` writes it, for `arguments`.
    pub(crate) fn spec(&self, arguments: &[&str]) -> Value {
        let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"];
        json!({
            "ociVersion": "1.3.0",
            "hostname": "inside",
            "root": {"path": self.directory.join("rootfs")},
            "process": process(arguments),
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                 "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                 "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
                {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                 "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
                {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                 "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs",
                 "options": ["nosuid", "noexec", "nodev", "ro"]},
                {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                 "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
            ],
            "linux": {
                "namespaces": namespaces.map(|kind| json!({"type": kind})),
                "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware", "/nowhere"],
                "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
            },
        })
    }

    /// Creates a container, with `input` for it to read.
    pub(crate) fn create(&self, id: &str, spec: &Value, input: &[u8]) -> Result<Collected, String> {
        let terminal = spec["process"]["terminal"] == true;
        let (stdio, streams) = self.streams(terminal);
        let request = CreateContainerRequest {
            container_id: id.to_owned(),
            oci_spec: serde_json::to_vec(spec).unwrap(),
            stdio: Some(stdio).into(),
            oci_state: json!({"id": id, "status": "created"}).to_string().into(),
            ..Default::default()
        };
        let answer = self.client().create_container(within(), &request);
        answer.map_err(text)?;
        Ok(collect(streams, input.to_vec()))
    }

    pub(crate) fn start(&self, id: &str) -> Result<(), String> {
        self.client()
            .start_container(within(), &container(id))
            .map(drop)
            .map_err(text)
    }

    /// Creates and starts a container.
    pub(crate) fn run(&self, id: &str, spec: &Value, input: &[u8]) -> Collected {
        let collected = self.create(id, spec, input).unwrap();
        self.start(id).unwrap();
        collected
    }

    /// Runs one more process.
    pub(crate) fn exec(
        &self,
        id: &str,
        exec_id: &str,
        process: &Value,
    ) -> Result<Collected, String> {
        let (stdio, streams) = self.streams(process["terminal"] == true);
        let request = ExecRequest {
            container_id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            oci_process: serde_json::to_vec(process).unwrap(),
            stdio: Some(stdio).into(),
            ..Default::default()
        };
        self.client().exec(within(), &request).map_err(text)?;
        Ok(collect(streams, Vec::new()))
    }

    pub(crate) fn signal(
        &self,
        id: &str,
        exec_id: &str,
        signal: u32,
        all: bool,
    ) -> Result<(), String> {
        let request = SignalRequest {
            container_id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            signal,
            all,
            ..Default::default()
        };
        self.client()
            .signal(within(), &request)
            .map(drop)
            .map_err(text)
    }

    pub(crate) fn resize(&self, id: &str, rows: u32, columns: u32) {
        let request = ResizeRequest {
            container_id: id.to_owned(),
            rows,
            columns,
            ..Default::default()
        };
        self.client().resize(within(), &request).unwrap();
    }

    pub(crate) fn commands(&self, id: &str) -> Vec<String> {
        let list = self
            .client()
            .list_processes(within(), &container(id))
            .unwrap();
        list.processes
            .into_iter()
            .map(|process| process.command)
            .collect()
    }

    pub(crate) fn pause(&self, id: &str) {
        self.client().pause(within(), &container(id)).unwrap();
    }

    pub(crate) fn resume(&self, id: &str) {
        self.client().resume(within(), &container(id)).unwrap();
    }

    pub(crate) fn delete(&self, id: &str) -> Result<(), String> {
        let request = DeleteContainerRequest {
            container_id: id.to_owned(),
            ..Default::default()
        };
        self.client()
            .delete_container(within(), &request)
            .map(drop)
            .map_err(text)
    }

    /// Waits for the end of a process.
    pub(crate) fn exit(&self, id: &str, exec_id: &str) -> Exited {
        let key = (id.to_owned(), exec_id.to_owned());
        let mut events = self.events.lock().unwrap();
        loop {
            if let Some(exit) = events.exits.remove(&key) {
                return exit;
            }
            let request = NextEventRequest {
                after: events.last,
                ..Default::default()
            };
            let event = self.client().next_event(within(), &request).unwrap();
            events.last = event.number;
            if let Some(Kind::Exited(exit)) = event.kind {
                let key = (exit.container_id.clone(), exit.exec_id.clone());
                assert!(
                    events.exits.insert(key, exit).is_none(),
                    "an exit was reported twice"
                );
            }
        }
    }

    fn streams(&self, terminal: bool) -> (Stdio, Vec<UnixListener>) {
        let mut listeners = Vec::new();
        let mut listen = || {
            let port = self.next_port.fetch_add(1, Ordering::Relaxed);
            listeners.push(UnixListener::bind(self.directory.join(port.to_string())).unwrap());
            port
        };
        let stdio = Stdio {
            terminal,
            stdin_port: listen(),
            stdout_port: listen(),
            stderr_port: if terminal { 0 } else { listen() },
            ..Default::default()
        };
        (stdio, listeners)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.agent.kill().unwrap();
        self.agent.wait().unwrap();
        remove_cgroups(self.directory.file_name().unwrap());
        fs::remove_dir_all(&self.directory).unwrap();
    }
}

/// Removes the cgroup that the agent made for itself, with those below it.
fn remove_cgroups(name: &OsStr) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let of_version_2 = |line: &&str| line.split(' ').nth(2) == Some("cgroup2");
    let mount = mounts.lines().find(of_version_2).unwrap();
    let own = Path::new(mount.split(' ').nth(1).unwrap()).join(name);
    fs::write(own.join("cgroup.kill"), "1").unwrap();
    let below = fs::read_dir(&own)
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    for cgroup in below.filter(|path| path.is_dir()).chain([own.clone()]) {
        // Busy until the last process that was killed is gone.
        while fs::remove_dir(&cgroup).is_err() {
            thread::yield_now();
        }
    }
}

/// A `process` object for `arguments`.
pub(crate) fn process(arguments: &[&str]) -> Value {
    let all = [
        "CAP_CHOWN",
        "CAP_KILL",
        "CAP_SETUID",
        "CAP_SETGID",
        "CAP_NET_BIND_SERVICE",
    ];
    json!({
        "user": {"uid": 0, "gid": 0},
        "args": arguments,
        "env": ["PATH=/bin", "TERM=dumb"],
        "cwd": "/",
        "noNewPrivileges": true,
        "capabilities": {"bounding": all, "effective": all, "permitted": all},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 512, "hard": 1024}],
    })
}

fn collect(listeners: Vec<UnixListener>, input: Vec<u8>) -> Collected {
    let mut connections = listeners
        .into_iter()
        .map(|listener| listener.accept().unwrap().0);
    let mut to_process = connections.next().unwrap();
    let input = thread::spawn(move || {
        // A process that doesn't read to the end is no error.
        drop(to_process.write_all(&input));
    });
    let read = |mut from_process: UnixStream| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            from_process.read_to_end(&mut bytes).unwrap();
            bytes
        })
    };
    Collected {
        input: Some(input),
        output: connections.map(read).collect(),
    }
}

fn make_rootfs(path: &Path) {
    for directory in ["bin", "etc", "proc", "sys", "dev", "tmp", "data"] {
        fs::create_dir_all(path.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", path.join("bin/busybox")).unwrap();
    let applets = Command::new("/bin/busybox")
        .arg("--list")
        .output()
        .unwrap()
        .stdout;
    for applet in String::from_utf8(applets)
        .unwrap()
        .lines()
        .filter(|&name| name != "busybox")
    {
        symlink("busybox", path.join("bin").join(applet)).unwrap();
    }
    fs::write(path.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
    fs::write(path.join("data/plain"), "not a program\n").unwrap();
}

fn container(id: &str) -> ContainerRequest {
    ContainerRequest {
        container_id: id.to_owned(),
        ..Default::default()
    }
}

fn within() -> Context {
    with_duration(std::time::Duration::from_secs(60))
}

fn text(error: ttrpc::Error) -> String {
    match error {
        ttrpc::Error::RpcStatus(status) => status.message,
        other => other.to_string(),
    }
}
