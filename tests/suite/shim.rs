//! containerd's shim without containerd: a client that speaks to it as
//! containerd of different versions does, and takes its events.
//!
//! Owns both ends of the conversation. What containerd itself makes of it is
//! tried in tests/engines.

use std::io::{PipeReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use caisson_tests::wait::{self, ends_within};
use caisson_tests::{Bundle, Namespace, Scene, stories};
use containerd_shim_protos::api::{
    ConnectRequest, ConnectResponse, CreateTaskRequest, DeleteRequest, Empty, ExecProcessRequest,
    KillRequest, PidsRequest, ShutdownRequest, StartRequest, StateRequest, StateResponse, Status,
    WaitRequest,
};
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::events::task::TaskExit;
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::sandbox_api::{
    CreateSandboxRequest, PingRequest, SandboxMetricsRequest, SandboxStatusRequest,
    ShutdownSandboxRequest, StartSandboxRequest, StopSandboxRequest, WaitSandboxRequest,
};
use containerd_shim_protos::sandbox_sync::SandboxClient;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::ttrpc::context::with_duration;
use containerd_shim_protos::ttrpc::{self, Code};
use containerd_shim_protos::{Client, TaskClient};
use serde_json::json;

stories![
    a_task_lives_under_both_names_of_its_service,
    two_containers_of_a_group_share_a_machine_and_end_apart,
    starts_at_once_find_one_server,
    a_killed_shim_leaves_nothing_after_its_delete,
    a_sandbox_is_there_before_its_containers,
    a_name_can_be_used_again_after_the_delete_action,
    output_that_nobody_reads_holds_no_end_up,
    a_start_that_takes_its_time_holds_nothing_else_up,
    a_network_that_the_machine_does_not_have_is_refused,
];

const LIMIT: Duration = Duration::from_secs(240);

/// A server of the shim, and what it tells.
pub(crate) struct Shim<'a> {
    scene: &'a Scene,
    address: String,
    pid: i32,
    task: TaskClient,
    raw: Client,
    events: Receiver<String>,
}

/// Takes events as containerd does, over the first connection: each is named by its
/// topic, an end also by the last part of its name and its status.
fn listen(path: &Path, events: Sender<String>) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        drop(listener);
        let mut head = [0; 10];
        while stream.read_exact(&mut head).is_ok() {
            let length = u32::from_be_bytes(head[..4].try_into().unwrap());
            let mut body = vec![0; length as usize];
            stream.read_exact(&mut body).unwrap();
            let call = ttrpc::Request::parse_from_bytes(&body).unwrap();
            events.send(told(&call.payload)).ok();
            let answer = ttrpc::Response::new().write_to_bytes().unwrap();
            let length = u32::try_from(answer.len()).unwrap();
            head[..4].copy_from_slice(&length.to_be_bytes());
            // An answer, under the number of the call.
            head[8] = 2;
            stream.write_all(&head).unwrap();
            stream.write_all(&answer).unwrap();
        }
    });
}

fn told(payload: &[u8]) -> String {
    let envelope = ForwardRequest::parse_from_bytes(payload).unwrap().envelope;
    if envelope.event.type_url != "containerd.events.TaskExit" {
        return envelope.topic.clone();
    }
    let exit = TaskExit::parse_from_bytes(&envelope.event.value).unwrap();
    let name = exit.id.rsplit('-').next().unwrap_or_default();
    format!("{} {name} {}", envelope.topic, exit.exit_status)
}

impl<'a> Shim<'a> {
    fn command(scene: &Scene, bundle: &Bundle, action: &str) -> Command {
        let mut command = Command::new(scene.settings.dist.join("bin/containerd-shim-caisson-v2"));
        command
            .args([
                "-namespace",
                &scene.tag(),
                "-address",
                "/nowhere",
                "-id",
                &bundle.id,
            ])
            .args(["-publish-binary", "containerd", action])
            .current_dir(&bundle.path)
            .env("CAISSON_CONFIG", scene.path("config.toml"))
            .env("TTRPC_ADDRESS", scene.path("events.sock"));
        command
    }

    /// Calls `start`, with this on standard input, and returns what it prints.
    fn answer(scene: &Scene, bundle: &Bundle, input: &[u8]) -> Vec<u8> {
        let mut child = Self::command(scene, bundle, "start")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }

    pub(crate) fn start(scene: &'a Scene, bundle: &Bundle) -> Self {
        let (sender, events) = mpsc::channel();
        listen(&scene.path("events.sock"), sender);
        Self::found(scene, bundle, events)
    }

    /// The server that `start` names.
    fn found(scene: &'a Scene, bundle: &Bundle, events: Receiver<String>) -> Self {
        let address = String::from_utf8(Self::answer(scene, bundle, b"")).unwrap();
        let raw = Client::connect(&address).unwrap();
        let mut shim = Self {
            scene,
            task: TaskClient::new(raw.clone()),
            address,
            pid: 0,
            raw,
            events,
        };
        let server = shim.connect(&bundle.id);
        assert_eq!(server.task_pid, 0);
        shim.pid = server.shim_pid.try_into().unwrap();
        shim
    }

    fn connect(&self, id: &str) -> ConnectResponse {
        let request = ConnectRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        self.task.connect(with_duration(LIMIT), &request).unwrap()
    }

    /// Creates the bundle's container; its output goes to the file that is named.
    pub(crate) fn create(&self, bundle: &Bundle) -> PathBuf {
        let output = self.scene.path(&format!("{}.out", bundle.id));
        self.create_to(bundle, &format!("file://{}", output.display()));
        output
    }

    fn create_to(&self, bundle: &Bundle, stdout: &str) {
        let request = CreateTaskRequest {
            id: bundle.id.clone(),
            bundle: bundle.path.display().to_string(),
            stdout: stdout.to_owned(),
            ..Default::default()
        };
        let created = self.task.create(with_duration(LIMIT), &request).unwrap();
        assert!(created.pid > 0);
    }

    pub(crate) fn start_process(&self, id: &str, exec_id: &str) {
        start_process(&self.task, id, exec_id);
    }

    pub(crate) fn add_exec(&self, id: &str, exec_id: &str, script: &str) -> ttrpc::Result<Empty> {
        let output = self.output_of(id, exec_id);
        self.add_exec_to(
            (id, exec_id),
            script,
            &format!("file://{}", output.display()),
        )
    }

    fn add_exec_to(
        &self,
        (id, exec_id): (&str, &str),
        script: &str,
        stdout: &str,
    ) -> ttrpc::Result<Empty> {
        let process = json!({
            "args": ["sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"],
            "user": {"uid": 0, "gid": 0},
        });
        let spec = Any {
            value: process.to_string().into_bytes(),
            ..Default::default()
        };
        let request = ExecProcessRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            stdout: stdout.to_owned(),
            spec: Some(spec).into(),
            ..Default::default()
        };
        self.task.exec(with_duration(LIMIT), &request)
    }

    pub(crate) fn output_of(&self, id: &str, exec_id: &str) -> PathBuf {
        self.scene.path(&format!("{id}-{exec_id}.out"))
    }

    pub(crate) fn wait(&self, id: &str, exec_id: &str) -> u32 {
        let request = WaitRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            ..Default::default()
        };
        let ended = self.task.wait(with_duration(LIMIT), &request).unwrap();
        ended.exit_status
    }

    pub(crate) fn kill(&self, id: &str) -> ttrpc::Result<Empty> {
        self.kill_process(id, "")
    }

    fn kill_process(&self, id: &str, exec_id: &str) -> ttrpc::Result<Empty> {
        let request = KillRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            signal: 9,
            ..Default::default()
        };
        self.task.kill(with_duration(LIMIT), &request)
    }

    pub(crate) fn delete(&self, id: &str) -> u32 {
        let request = DeleteRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        let deleted = self.task.delete(with_duration(LIMIT), &request).unwrap();
        deleted.exit_status
    }

    /// State, by the name that containerd before 2.0 calls the service.
    fn older_state(&self, id: &str) -> StateResponse {
        let request = StateRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        let mut call = ttrpc::Request::new();
        call.set_service("containerd.task.v2.Task".to_owned());
        call.set_method("State".to_owned());
        call.timeout_nano = 60_000_000_000;
        call.payload = request.write_to_bytes().unwrap();
        let answer = self.raw.request(call).unwrap();
        StateResponse::parse_from_bytes(&answer.payload).unwrap()
    }

    /// The next event must be this one.
    #[track_caller]
    fn expect(&self, event: &str) {
        let next = self.events.recv_timeout(LIMIT).unwrap();
        assert_eq!(next, event);
    }

    pub(crate) fn shut_down(&self) {
        let request = ShutdownRequest::default();
        self.task.shutdown(with_duration(LIMIT), &request).unwrap();
        assert!(ends_within(self.pid, LIMIT));
        let path = self.address.strip_prefix("unix://").unwrap();
        assert!(!Path::new(path).exists());
    }
}

fn start_process(task: &TaskClient, id: &str, exec_id: &str) {
    let request = StartRequest {
        id: id.to_owned(),
        exec_id: exec_id.to_owned(),
        ..Default::default()
    };
    task.start(with_duration(LIMIT), &request).unwrap();
}

/// The namespace's state directory.
fn state_folder(scene: &Scene) -> PathBuf {
    PathBuf::from("/run/caisson-shim").join(scene.tag())
}

/// A test leaves it empty.
fn assert_state_is_empty(scene: &Scene) {
    std::fs::remove_dir(state_folder(scene)).unwrap();
}

fn a_task_lives_under_both_names_of_its_service(scene: &Scene) {
    let bundle = scene.shell("echo here; sleep 1000");
    let shim = Shim::start(scene, &bundle);
    let id = bundle.id.as_str();
    // A second start of the same finds the server, and speaks as it is spoken to.
    let parameters = BootstrapParams {
        instance_id: bundle.id.clone(),
        namespace: scene.tag(),
        ..Default::default()
    };
    let answer = Shim::answer(scene, &bundle, &parameters.write_to_bytes().unwrap());
    let answer = BootstrapResult::parse_from_bytes(&answer).unwrap();
    assert_eq!((answer.version, &answer.address), (3, &shim.address));

    let output = shim.create(&bundle);
    shim.expect("/tasks/create");
    assert_eq!(shim.older_state(id).status, Status::CREATED.into());
    shim.start_process(id, "");
    shim.expect("/tasks/start");
    assert_eq!(shim.older_state(id).status, Status::RUNNING.into());
    shim.add_exec(id, "one", "exit 3").unwrap();
    let twice = shim.add_exec(id, "one", "true").unwrap_err();
    assert_eq!(code(&twice), Code::ALREADY_EXISTS);
    shim.start_process(id, "one");
    assert_eq!(shim.wait(id, "one"), 3);
    shim.add_exec(id, "two", "sleep 1000").unwrap();
    shim.start_process(id, "two");
    for event in [
        "exec-added",
        "exec-started",
        "exit one 3",
        "exec-added",
        "exec-started",
    ] {
        shim.expect(&format!("/tasks/{event}"));
    }
    let pids = PidsRequest {
        id: id.to_owned(),
        ..Default::default()
    };
    let pids = shim.task.pids(with_duration(LIMIT), &pids).unwrap();
    assert_eq!(pids.processes.len(), 2);
    assert_eq!(shim.connect(id).task_pid, pids.processes[0].pid);
    shim.kill(id).unwrap();
    assert_eq!(shim.wait(id, ""), 137);
    shim.expect("/tasks/exit two 137");
    let own = id.rsplit('-').next().unwrap();
    shim.expect(&format!("/tasks/exit {own} 137"));
    assert_eq!(code(&shim.kill(id).unwrap_err()), Code::NOT_FOUND);
    assert_eq!(shim.delete(id), 137);
    shim.expect("/tasks/delete");
    assert_eq!(std::fs::read_to_string(output).unwrap(), "here\n");
    shim.shut_down();
    assert_state_is_empty(scene);
}

/// Processes that serve for this container.
fn servers_of(id: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&format!("-id {id} ")) && line.contains(" serve"))
        .collect()
}

fn starts_at_once_find_one_server(scene: &Scene) {
    let bundle = scene.shell("true");
    let begin = |input: &PipeReader| {
        Shim::command(scene, &bundle, "start")
            .stdin(input.try_clone().unwrap())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    for round in 0..10 {
        // They go on when their input ends, which is one.
        let (input, held) = std::io::pipe().unwrap();
        let starts = [(); 4].map(|()| begin(&input));
        drop(held);
        let answers = starts.map(|start| start.wait_with_output().unwrap().stdout);
        assert_eq!(
            answers,
            [(); 4].map(|()| answers[0].clone()),
            "round {round}"
        );
        let servers = servers_of(&bundle.id);
        assert_eq!(servers.len(), 1, "round {round}: {servers:?}");
        // It is the one that is found, and leaves nothing behind.
        let (_, events) = mpsc::channel();
        let shim = Shim::found(scene, &bundle, events);
        assert_eq!(shim.address.as_bytes(), answers[0]);
        shim.shut_down();
        assert_eq!(servers_of(&bundle.id), [""; 0]);
    }
}

fn code(err: &ttrpc::Error) -> Code {
    match err {
        ttrpc::Error::RpcStatus(status) => status.code(),
        other => panic!("{other}"),
    }
}

fn two_of_a_group(scene: &Scene) -> [Bundle; 2] {
    let bundles = [scene.shell("sleep 1000"), scene.shell("sleep 1000")];
    for bundle in &bundles {
        bundle.edit(|config| config["annotations"] = json!({"dev.caisson.group": scene.tag()}));
    }
    bundles
}

fn two_containers_of_a_group_share_a_machine_and_end_apart(scene: &Scene) {
    let bundles = two_of_a_group(scene);
    let [first, second] = &bundles;
    let shim = Shim::start(scene, first);
    let same = String::from_utf8(Shim::answer(scene, second, b"")).unwrap();
    assert_eq!(same, shim.address);
    let [one, other] = bundles.each_ref().map(|bundle| {
        let id = bundle.id.as_str();
        shim.create(bundle);
        shim.start_process(id, "");
        let script = "cat /proc/sys/kernel/random/boot_id";
        shim.add_exec(id, "boot", script).unwrap();
        shim.start_process(id, "boot");
        assert_eq!(shim.wait(id, "boot"), 0);
        std::fs::read_to_string(shim.output_of(id, "boot")).unwrap()
    });
    assert_eq!(one, other);
    shim.kill(&second.id).unwrap();
    assert_eq!(shim.wait(&second.id, ""), 137);
    assert_eq!(shim.delete(&second.id), 137);
    assert_eq!(shim.older_state(&first.id).status, Status::RUNNING.into());
    // Back into the same machine, and away with it.
    shim.create(second);
    shim.start_process(&second.id, "");
    shim.kill(&first.id).unwrap();
    assert_eq!(shim.wait(&second.id, ""), 137);
    assert_eq!(shim.delete(&second.id), 137);
    assert_eq!(shim.wait(&first.id, ""), 137);
    assert_eq!(shim.delete(&first.id), 137);
    shim.shut_down();
    assert_state_is_empty(scene);
}

/// A call of containerd 2.4, which goes on where the answer is "unimplemented".
fn update_sandbox(shim: &Shim<'_>) -> Code {
    let mut update = ttrpc::Request::new();
    update.set_service("containerd.runtime.sandbox.v1.Sandbox".to_owned());
    update.set_method("UpdateSandbox".to_owned());
    code(&shim.raw.request(update).unwrap_err())
}

/// A container that shares namespaces with its pod's sandbox, and sees it.
fn begin_in_pod(shim: &Shim<'_>, (sandbox_id, pid): (&str, u32)) -> Bundle {
    let container = shim.scene.shell("sleep 1000");
    container.edit(|config| {
        config["annotations"] = json!({"io.kubernetes.cri.sandbox-id": sandbox_id});
        config.as_object_mut().unwrap().remove("hostname");
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        for kind in ["ipc", "uts", "pid"] {
            namespaces.retain(|namespace| namespace["type"] != kind);
            namespaces.push(json!({"type": kind, "path": format!("/proc/{pid}/ns/{kind}")}));
        }
    });
    shim.create(&container);
    shim.start_process(&container.id, "");
    // Its pid namespace is that of the sandbox, and so is its name.
    let script = "tr '\\0' ' ' </proc/1/cmdline; hostname";
    shim.add_exec(&container.id, "look", script).unwrap();
    shim.start_process(&container.id, "look");
    assert_eq!(shim.wait(&container.id, "look"), 0);
    let seen = std::fs::read_to_string(shim.output_of(&container.id, "look")).unwrap();
    assert_eq!(seen, format!("/pause {sandbox_id}\n"));
    container
}

fn a_sandbox_is_there_before_its_containers(scene: &Scene) {
    let pod = scene.bundle(&["true"]);
    // containerd's sandbox controller makes one, and removes it only while it is empty.
    let rootfs = pod.path.join("rootfs");
    std::fs::create_dir(&rootfs).unwrap();
    std::fs::remove_file(pod.path.join("config.json")).unwrap();
    let shim = Shim::start(scene, &pod);
    let sandbox = SandboxClient::new(shim.raw.clone());
    let limit = || with_duration(LIMIT);
    let sandbox_id = pod.id.clone();
    let ping = PingRequest {
        sandbox_id: sandbox_id.clone(),
        ..Default::default()
    };
    let nobody = sandbox.ping_sandbox(limit(), &ping).unwrap_err();
    assert_eq!(code(&nobody), Code::NOT_FOUND);
    let mut create = CreateSandboxRequest {
        sandbox_id: sandbox_id.clone(),
        bundle_path: pod.path.display().to_string(),
        ..Default::default()
    };
    create.options.mut_or_insert_default().type_url = "example.Other".to_owned();
    let refused = sandbox.create_sandbox(limit(), &create).unwrap_err();
    assert_eq!(code(&refused), Code::INVALID_ARGUMENT);
    create.options = None.into();
    sandbox.create_sandbox(limit(), &create).unwrap();
    let start = StartSandboxRequest {
        sandbox_id: sandbox_id.clone(),
        ..Default::default()
    };
    let pid = sandbox.start_sandbox(limit(), &start).unwrap().pid;
    sandbox.ping_sandbox(limit(), &ping).unwrap();
    let status = SandboxStatusRequest {
        sandbox_id: sandbox_id.clone(),
        ..Default::default()
    };
    let state = || sandbox.sandbox_status(limit(), &status).unwrap();
    assert_eq!(
        (state().state.as_str(), state().pid),
        ("SANDBOX_READY", pid)
    );

    assert_eq!(update_sandbox(&shim), Code::UNIMPLEMENTED);
    let container = begin_in_pod(&shim, (&sandbox_id, pid));
    let metrics = SandboxMetricsRequest {
        sandbox_id: sandbox_id.clone(),
        ..Default::default()
    };
    let metrics = sandbox.sandbox_metrics(limit(), &metrics).unwrap().metrics;
    assert_eq!(metrics.data.type_url, "io.containerd.cgroups.v2.Metrics");
    shim.kill(&container.id).unwrap();
    assert_eq!(shim.wait(&container.id, ""), 137);
    assert_eq!(shim.delete(&container.id), 137);

    let stop = StopSandboxRequest {
        sandbox_id: sandbox_id.clone(),
        timeout_secs: 60,
        ..Default::default()
    };
    sandbox.stop_sandbox(limit(), &stop).unwrap();
    let wait = WaitSandboxRequest {
        sandbox_id,
        ..Default::default()
    };
    assert_eq!(sandbox.wait_sandbox(limit(), &wait).unwrap().exit_status, 0);
    assert_eq!(state().state, "SANDBOX_NOTREADY");
    let shutdown = ShutdownSandboxRequest::default();
    sandbox.shutdown_sandbox(limit(), &shutdown).unwrap();
    assert!(ends_within(shim.pid, LIMIT));
    std::fs::remove_dir(&rootfs).unwrap();
    // No event tells of the sandbox itself.
    for event in ["create", "start", "exec-added", "exec-started"] {
        shim.expect(&format!("/tasks/{event}"));
    }
    assert_state_is_empty(scene);
}

/// As containerd does it that was killed while a container was being created.
fn a_name_can_be_used_again_after_the_delete_action(scene: &Scene) {
    let bundle = scene.shell("sleep 1000");
    let shim = Shim::start(scene, &bundle);
    shim.create(&bundle);
    let output = Shim::command(scene, &bundle, "delete").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(shim.wait(&bundle.id, ""), 137);
    shim.create(&bundle);
    shim.start_process(&bundle.id, "");
    assert_eq!(shim.older_state(&bundle.id).status, Status::RUNNING.into());
    shim.kill(&bundle.id).unwrap();
    assert_eq!(shim.wait(&bundle.id, ""), 137);
    assert_eq!(shim.delete(&bundle.id), 137);
    shim.shut_down();
    assert_state_is_empty(scene);
}

fn a_network_that_the_machine_does_not_have_is_refused(scene: &Scene) {
    let bundles = two_of_a_group(scene);
    let [first, second] = &bundles;
    let (namespace, far) = (Namespace::make(), Namespace::make());
    namespace.connect("eth0", &far, "far0");
    second.in_network(&namespace.path());
    let shim = Shim::start(scene, first);
    shim.create(first);
    shim.start_process(&first.id, "");
    shim.create(second);
    let request = StartRequest {
        id: second.id.clone(),
        ..Default::default()
    };
    let refused = shim.task.start(with_duration(LIMIT), &request).unwrap_err();
    assert!(refused.to_string().contains("interface eth0"), "{refused}");
    for bundle in [second, first] {
        shim.kill(&bundle.id).unwrap();
        assert_eq!(shim.wait(&bundle.id, ""), 137);
        assert_eq!(shim.delete(&bundle.id), 137);
    }
    shim.shut_down();
    assert_state_is_empty(scene);
}

/// Clients that have gone away leave fifos without a reader.
fn output_that_nobody_reads_holds_no_end_up(scene: &Scene) {
    let script = "while :; do echo 0123456789012345678901234567890123456789; done";
    let bundle = scene.shell(script);
    let id = bundle.id.as_str();
    let fifo = |name: &str| {
        let path = scene.path(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        path.display().to_string()
    };
    let shim = Shim::start(scene, &bundle);
    shim.create_to(&bundle, &fifo("init"));
    shim.start_process(id, "");
    let added = shim.add_exec_to((id, "one"), script, &fifo("one"));
    added.unwrap();
    shim.start_process(id, "one");
    // By the time that a further process has done its work, the fifos are full.
    shim.add_exec(id, "two", "sleep 1").unwrap();
    shim.start_process(id, "two");
    assert_eq!(shim.wait(id, "two"), 0);
    shim.kill(id).unwrap();
    assert_eq!(shim.wait(id, "one"), 137);
    assert_eq!(shim.wait(id, ""), 137);
    assert_eq!(shim.delete(id), 137);
    shim.shut_down();
    assert_state_is_empty(scene);
}

/// One waits for its log driver, which is not ready yet.
fn a_start_that_takes_its_time_holds_nothing_else_up(scene: &Scene) {
    let bundle = scene.shell("sleep 1000");
    let id = bundle.id.as_str();
    let (script, gate) = (scene.path("logger.sh"), scene.path("gate"));
    let began = scene.path("began");
    let waits = format!(
        "touch {}; until [ -e {} ]; do sleep 0.1; done",
        began.display(),
        gate.display()
    );
    std::fs::write(&script, format!("{waits}; exec 5>&-; cat <&3 >$2")).unwrap();
    let logged = scene.path("logged");
    let logger = format!(
        "binary:///bin/sh?{}=to&{}",
        script.display(),
        logged.display()
    );
    let shim = Shim::start(scene, &bundle);
    shim.create(&bundle);
    shim.start_process(id, "");
    shim.add_exec(id, "other", "sleep 1000").unwrap();
    shim.start_process(id, "other");
    let added = shim.add_exec_to((id, "slow"), "echo word; exit 3", &logger);
    added.unwrap();
    let (task, of) = (shim.task.clone(), id.to_owned());
    let slow = std::thread::spawn(move || start_process(&task, &of, "slow"));
    wait::for_file(&began);
    shim.kill_process(id, "other").unwrap();
    assert_eq!(shim.wait(id, "other"), 137);
    shim.add_exec(id, "further", "exit 4").unwrap();
    shim.start_process(id, "further");
    assert_eq!(shim.wait(id, "further"), 4);
    assert!(!slow.is_finished());
    std::fs::write(&gate, "").unwrap();
    slow.join().unwrap();
    assert_eq!(shim.wait(id, "slow"), 3);
    shim.kill(id).unwrap();
    assert_eq!(shim.wait(id, ""), 137);
    assert_eq!(shim.delete(id), 137);
    shim.shut_down();
    assert_eq!(std::fs::read_to_string(&logged).unwrap(), "word\n");
    assert_state_is_empty(scene);
}

fn a_killed_shim_leaves_nothing_after_its_delete(scene: &Scene) {
    let bundles = two_of_a_group(scene);
    let [bundle, further] = &bundles;
    let shim = Shim::start(scene, bundle);
    let owners = bundles.each_ref().map(|bundle| {
        shim.create(bundle);
        shim.start_process(&bundle.id, "");
        shim.older_state(&bundle.id).pid
    });
    let server = rustix::process::Pid::from_raw(shim.pid).unwrap();
    rustix::process::kill_process(server, rustix::process::Signal::KILL).unwrap();
    for owner in owners {
        assert!(ends_within(owner.cast_signed(), LIMIT));
    }
    assert!(state_folder(scene).join(&further.id).exists());
    // containerd from 2.0 on calls for the first of a group only.
    let output = Shim::command(scene, bundle, "delete").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let deleted = containerd_shim_protos::api::DeleteResponse::parse_from_bytes(&output.stdout);
    assert_eq!(deleted.unwrap().exit_status, 137);
    let path = shim.address.strip_prefix("unix://").unwrap();
    assert!(!Path::new(path).exists());
    assert_state_is_empty(scene);
}
